# Raw files and published weights: what tells that they are there, and what fetching them would be.

ANNOUNCED: list[str] = []


def receipt(asset: str) -> str:
    """What tells that a published file is there, or that an archive's images were crawled."""
    folder = f"data/{CORPUS}/crawl" if asset in CRAWLED else RECEIPTS
    return f"{folder}/{asset}.json"


def receipts(names: list[str]) -> list[str]:
    """Receipts of the assets that give raw files or folders."""
    catalogue = load_catalogue()
    assets = [
        asset.id for name in names for asset in catalogue.providers(f"raw/{name}")
    ]
    return [receipt(asset) for asset in dict.fromkeys(assets)]


def crawled_from(wildcards: Wildcards) -> list[str]:
    """What tells that the records are there which name the addresses of an archive's images."""
    catalogue = load_catalogue()
    places = catalogue[wildcards.asset].crawl.values()
    return [receipt(catalogue.producer(place).id) for place in places]


def raw(names: list[str]) -> list[str]:
    """Raw files as inputs: the manifests of what is made here, or receipts of the published files."""
    made = PLAN.made_files(names)
    if made is not None:
        return [f"{RAW}/{name}" for name in made]
    drawn = [f"{RAW}/{name}" for name in names if name == DRAWN_IDS]
    return drawn + receipts([name for name in names if name != DRAWN_IDS])


def raw_root(wildcards: Wildcards) -> str:
    """The folder of raw files."""
    return RAW


def published_weights(asset: str) -> list[str]:
    """What tells that published weights are there, and all that is read with them."""
    return [receipt(found.id) for found in load_catalogue().read_together([asset])]


def published_file(asset: str) -> str:
    """Where published weights lie once they are fetched."""
    place = load_catalogue()[asset].place or ""
    return f"{WEIGHTS}/{place.removeprefix('weights/')}"


def published_system_weights() -> list[str]:
    """Assets with published weights that runs start from."""
    found = [PLAN.published_weights_of(run) for run in PLAN.runs]
    return list(dict.fromkeys(asset for asset in found if asset))


def downloads() -> list[str]:
    """Everything that comes from elsewhere."""
    weights = [published_weights(asset) for asset in PLAN.published_assets()]
    return [*raw(PLAN.all_raw_files()), *(file for files in weights for file in files)]


def announce_downloads(although_complete: bool) -> None:
    """Says on stderr, once, what fetching everything would be, and how much of it is there."""
    assets = needed_assets(PLAN, load_catalogue())
    if not assets or ANNOUNCED or not workflow.is_main_process:
        return
    crawled = crawled_assets(PLAN, load_catalogue())
    places = Places(Path.cwd(), CORPUS)
    try:
        settings = read_settings(PLAN.config["assets"], "config.yaml", os.environ)
        found = plan_download(assets, places, settings, crawled, read_places(PLAN))
    except LxmertError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if although_complete or not found.is_complete:
        chosen = ", ".join(f"{name}: {value}" for name, value in PLAN.branches.items())
        ANNOUNCED.append(found.text(f"corpus {CORPUS} with {chosen}"))
        print(*ANNOUNCED, file=sys.stderr)


def announced_downloads(wildcards: Wildcards) -> list[str]:
    """Everything that comes from elsewhere; where `download` is asked for, a dry run says what it would be."""
    announce_downloads(although_complete=True)
    return downloads()


def places_option(wildcards: Wildcards) -> str:
    """Options that say which files are read of an asset: some are made of others, some left out by default."""
    asset = load_catalogue()[wildcards.asset]
    read = read_places(PLAN)
    places = [
        place
        for place in asset.places()
        if any(f"{name}/".startswith(f"{place}/") for name in read)
    ]
    left_out = any(
        member.on_request and member.place in places for member in asset.members
    )
    return f"--places {' '.join(places)}" if asset.derived or left_out else ""
