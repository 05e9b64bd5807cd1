# Raw files and published weights: what tells that they are there, and what fetching them would be.

ANNOUNCED: list[str] = []
READ = read_places(PLAN)


def receipt(asset: str) -> str:
    """What tells that a published file is there, or that an archive's images were crawled."""
    folder = f"data/{CORPUS}/crawl" if asset in CRAWLED else RECEIPTS
    return f"{folder}/{asset}.json"


def on_request(asset: str, read: list[str] = READ) -> list[str]:
    """Places of what an asset leaves out unless asked for, and some of these files are of."""
    return [
        member.place
        for member in load_catalogue()[asset].members
        if member.on_request and any(member.gives(place) for place in read)
    ]


def receipts(names: list[str]) -> list[str]:
    """Receipts of the assets that give raw files or folders.

    What is left out by default has receipts of its own: whoever asks for it later makes nothing run again that
    reads the rest.
    """
    catalogue = load_catalogue()
    found = []
    for place in (f"raw/{name}" for name in names):
        for asset in catalogue.providers(place):
            found.append(receipt(asset.id))
            if place in READ and on_request(asset.id, [place]):
                found.append(f"{RECEIPTS}/on_request/{asset.id}.json")
    return list(dict.fromkeys(found))


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
        found = plan_download(assets, places, settings, crawled, READ)
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


def places_read(wildcards: Wildcards) -> str:
    """The option that says which files are read of an asset."""
    places = [
        place
        for place in load_catalogue()[wildcards.asset].places()
        if any(f"{name}/".startswith(f"{place}/") for name in READ)
    ]
    return f"--places {' '.join(places)}"


def places_option(wildcards: Wildcards) -> str:
    """The same for an asset some of whose files are made of others."""
    return places_read(wildcards) if load_catalogue()[wildcards.asset].derived else ""


def on_request_option(wildcards: Wildcards, resources: ResourceList) -> str:
    """The same where some are left out by default, so that one download brings them with the rest.

    Made of resources, so that asking for them later does not repeat what read the rest.
    """
    return places_read(wildcards) if on_request(wildcards.asset) else ""


def on_request_places(wildcards: Wildcards) -> str:
    """The option that says which of them are read."""
    return f"--places {' '.join(on_request(wildcards.asset))}"
