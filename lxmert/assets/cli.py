"""Published files: list them, plan a download, fetch, verify, or add what you have."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from lxmert.assets import fetch_cli
from lxmert.assets.asset import BRANCHES
from lxmert.assets.catalogue import FOLDER, Catalogue, load_catalogue
from lxmert.assets.crawl.checking import verify_crawled
from lxmert.assets.crawl_cli import add_crawl_arguments, crawl_named
from lxmert.assets.fetch_cli import add_branches, branches_of
from lxmert.assets.inventory import verify
from lxmert.assets.listing import listing, listing_text
from lxmert.assets.lock import Lock
from lxmert.assets.places import Places, Settings, read_settings
from lxmert.assets.planning import crawled_assets, named_crawls, needed_assets, plan_download, read_places
from lxmert.errors import DownloadError, SpecError
from lxmert.specs import Plan, load_plan
from lxmert.specs.documents import read_yaml

ACTIONS = {
    "list": "every asset with size, state, licence and who needs it; totals of each target",
    "plan": "what config.yaml, or a target, would fetch: bytes, disk, what is there, what needs a person",
    "fetch": "assets, files (data/full/raw/...) or, with --for, all a target needs",
    "crawl": "images one by one from the addresses in a data set's records, such as nlvr2's",
    "verify": "every byte on disk against catalogue and lock file",
    "add": "a file, a folder or all pieces of a split archive that you brought yourself",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `assets`, each with its own options."""
    parsers = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    actions = {name: parsers.add_parser(name, help=what, description=what) for name, what in ACTIONS.items()}
    for action in actions.values():
        _add_common(action)
    for name in ("list", "plan"):
        actions[name].add_argument("--json", action="store_true", help="machine-readable")
    actions["plan"].add_argument(
        "names", nargs="*", metavar="TARGET", help="vqa, gqa, nlvr2, pretrain or detector; else config.yaml's"
    )
    add_branches(actions["plan"])
    actions["plan"].add_argument(
        "--everything", action="store_true", help="count what is left out by default too"
    )
    fetch_cli.add_arguments(actions["fetch"])
    add_crawl_arguments(actions["crawl"])
    actions["verify"].add_argument("names", nargs="*", metavar="ID", help="assets; all if none is named")
    actions["add"].add_argument("names", nargs="*", metavar="FILE", help="what you brought")
    actions["add"].add_argument("--id", help="the asset it is, if its name does not tell")
    actions["add"].add_argument(
        "--everything",
        action="store_true",
        help="unpack what is left out by default too, not only what config.yaml reads of it",
    )
    actions["add"].add_argument("--link", action="store_true", help="link instead of copying")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--corpus", default="full", help="corpus whose folders are filled")
    parser.add_argument("--config", type=Path, help="read `assets` of this file; config.yaml if it is there")
    parser.add_argument("--settings", help="`assets` of the configuration as JSON, instead of a file")
    parser.add_argument("--catalogue", type=Path, default=FOLDER, help="folder of catalogue documents")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/ and weights/")


def run(args: argparse.Namespace) -> None:
    """Does one of the actions."""
    catalogue = load_catalogue(args.catalogue.resolve())
    places = Places(args.root.resolve(), args.corpus)
    settings = _settings(args)
    if args.action == "list":
        found = listing(catalogue, places)
        print(json.dumps(found, indent=2, sort_keys=True) if args.json else listing_text(found))
    elif args.action == "plan":
        print(_plan(args, catalogue, settings))
    elif args.action == "fetch":
        fetch_cli.run(args, catalogue, places, settings)
    elif args.action == "crawl":
        crawl_named(args, catalogue, places, settings)
    elif args.action == "verify":
        print(_verify(catalogue, places, args.names))
    else:
        _add(args, catalogue, places, settings)


# The graph's `assets` as JSON. No parameter of its jobs: another mirror makes nothing run again.
SETTINGS_VARIABLE = "LXMERT_ASSETS"


def _settings(args: argparse.Namespace) -> Settings:
    text = args.settings
    where = "--settings" if text is not None else SETTINGS_VARIABLE
    if text is None and not args.config:
        text = os.environ.get(SETTINGS_VARIABLE)
    if text is not None:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecError(f"{where}: not valid JSON: {error}. Write {{}} for the defaults.") from error
    else:
        path = args.config or args.root / "config.yaml"
        if args.config and not path.is_file():
            raise SpecError(f"{path}: no such file. Check --config.")
        value, where = (read_yaml(path).get("assets", {}) if path.is_file() else {}), str(path)
    if not isinstance(value, dict):
        raise SpecError(f"{where}: assets: must be `name: value` lines.")
    return read_settings(value, where, os.environ)


def _plan(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> str:
    """The download of named targets, or of what the configuration's graph reads."""
    if args.names:
        places = Places(args.root.resolve(), args.corpus)
        branches = branches_of(args)
        assets, also = catalogue.needed(args.names, branches), []
        crawled = named_crawls(args.names, branches, catalogue)
        title = ", ".join(args.names)
    else:
        plan = _graph(args)
        places = Places(args.root.resolve(), plan.corpus_name)
        branches, assets = plan.branches, needed_assets(plan, catalogue)
        crawled, also = crawled_assets(plan, catalogue), read_places(plan)
        title = f"corpus {plan.corpus_name}: {', '.join(plan.config['tasks'])}"
        if not assets:
            return f"{title}: nothing to fetch; the graph makes its data itself."
    if args.everything:
        also = [place for asset in assets for place in asset.everything]
    found = plan_download(assets, places, settings, crawled, also)
    if args.json:
        return json.dumps(found.to_json(), indent=2, sort_keys=True)
    return found.text(f"{title} with " + ", ".join(f"{name}: {value}" for name, value in branches.items()))


def _graph(args: argparse.Namespace) -> Plan:
    """The plan of the configuration, with branches changed by options."""
    path = args.config or args.root / "config.yaml"
    config = read_yaml(path) if path.is_file() else {"corpus": args.corpus}
    chosen = {name: getattr(args, name) for name in BRANCHES if getattr(args, name, None)}
    return load_plan({**config, **chosen}, str(path))


def _verify(catalogue: Catalogue, places: Places, names: list[str]) -> str:
    records = Lock(places.lock_file).read()
    chosen = [catalogue[name] for name in names] or list(catalogue.assets.values())
    lines, counts, wrong = [], dict.fromkeys(("ok", "missing", "changed", "unrecorded"), 0), []
    for asset in chosen:
        record = records.get(asset.id)
        crawled = [] if record else list(verify_crawled(asset, places))
        for finding in crawled or verify(asset, places, record):
            counts[finding.verdict] += 1
            known = bool(crawled) or finding.place in (record or {}).get("places", {})
            gone = finding.verdict == "missing" and known
            if finding.verdict == "changed" or gone:
                wrong.append(f"{places.shown(finding.path)} ({asset.id}) is {finding.verdict}")
            if finding.verdict != "missing" or gone or names:
                lines.append(f"{finding.verdict:10s} {places.shown(finding.path)}")
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    if wrong:
        print("\n".join(lines))
        raise DownloadError(
            f"{'; '.join(wrong)}. Remove what is changed, then: python -m lxmert assets fetch ID (crawl ID"
            " for crawled images)."
        )
    return "\n".join(lines)


def _add(args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings) -> None:
    from lxmert.assets.dropin import add

    if not args.names:
        raise SpecError("assets add: no file named. Name a file, a folder, or all pieces of a split archive.")
    config = args.config or args.root / "config.yaml"
    also = read_places(_graph(args)) if config.is_file() else []
    paths = [Path(name) for name in args.names]
    for path in add(paths, catalogue, places, settings, args.id, args.link, also, args.everything):
        print(places.shown(path))
