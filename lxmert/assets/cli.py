"""Published files: list them, plan a download, fetch, verify, or add what you have.

actions:
  list             every asset with size, state, licence and who needs it; totals of each target
  plan [TARGET...] what config.yaml, or a target, would fetch: bytes, disk, what is there, what needs a person
  fetch NAME...    assets, files (data/full/raw/...) or, with --for, all a target needs
  verify [ID...]   every byte on disk against catalogue and lock file
  crawl NAME...    images one by one from the addresses in a data set's records, such as nlvr2's
  add FILE...      a file, folder or all pieces of a split archive that you brought yourself
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lxmert.assets.catalogue import (
    BRANCHES,
    DEFAULT_BRANCHES,
    FOLDER,
    TARGETS,
    Asset,
    Catalogue,
    load_catalogue,
)
from lxmert.assets.crawl_cli import add_crawl_arguments, crawl_named
from lxmert.assets.inventory import state, verify
from lxmert.assets.lock import Lock
from lxmert.assets.meter import gigabytes
from lxmert.assets.places import Places, Settings, read_settings
from lxmert.assets.planning import crawled_assets, needed_assets, plan_download
from lxmert.errors import DownloadError, SpecError
from lxmert.specs import Plan, load_plan
from lxmert.specs.documents import read_yaml
from lxmert.state import StopSignal

log = logging.getLogger(__name__)

ACTIONS = ("list", "plan", "fetch", "crawl", "verify", "add")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `assets`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("names", nargs="*", metavar="NAME", help="assets, targets or files; see above")
    parser.add_argument("--corpus", default="full", help="corpus whose folders are filled")
    parser.add_argument("--config", type=Path, help="read `assets` of this file; config.yaml if it is there")
    parser.add_argument("--settings", help="`assets` of the configuration as JSON, instead of a file")
    parser.add_argument("--catalogue", type=Path, default=FOLDER, help="folder of catalogue documents")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/ and weights/")
    for name, choices in BRANCHES.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            choices=choices,
            help=f"branch to plan; {DEFAULT_BRANCHES[name]} for named targets",
        )
    parser.add_argument(
        "--for", dest="targets", nargs="+", metavar="TARGET", default=[], help="fetch: targets"
    )
    parser.add_argument(
        "--out-receipt",
        type=Path,
        help="fetch: one asset, of which what you put in place is used as it is; write what there is of it",
    )
    parser.add_argument(
        "--places", nargs="+", default=[], metavar="PLACE", help="with --out-receipt: what is read of it"
    )
    parser.add_argument(
        "--everything", action="store_true", help="fetch: unpack what is left out by default too"
    )
    parser.add_argument("--id", help="add: the asset it is, if its name does not tell")
    parser.add_argument("--link", action="store_true", help="add: link instead of copying")
    parser.add_argument("--json", action="store_true", help="list, plan: machine-readable")
    add_crawl_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Does one of the actions."""
    catalogue = load_catalogue(args.catalogue.resolve())
    places = Places(args.root.resolve(), args.corpus)
    settings = _settings(args)
    if args.action == "list":
        print(_listing(catalogue, places, args.json))
    elif args.action == "plan":
        print(_plan(args, catalogue, settings))
    elif args.action == "fetch" and args.out_receipt:
        _fetch_for_graph(args, catalogue, places, settings)
    elif args.action == "fetch":
        _fetch(
            _chosen(catalogue, args.names, args.targets, _branches(args), places),
            places,
            settings,
            args.everything,
        )
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
        except json.JSONDecodeError as error:
            raise SpecError(f"{where}: not valid JSON: {error}. Write {{}} for the defaults.") from error
    else:
        path = args.config or args.root / "config.yaml"
        if args.config and not path.is_file():
            raise SpecError(f"{path}: no such file. Check --config.")
        value, where = (read_yaml(path).get("assets", {}) if path.is_file() else {}), str(path)
    if not isinstance(value, dict):
        raise SpecError(f"{where}: assets: must be `name: value` lines.")
    return read_settings(value, where, os.environ)


# list


def _listing(catalogue: Catalogue, places: Places, as_json: bool) -> str:
    records = Lock(places.lock_file).read()
    rows = [_row(asset, places, records.get(asset.id)) for asset in catalogue.assets.values()]
    totals = list(_totals(catalogue, rows))
    if as_json:
        return json.dumps({"assets": rows, "totals": totals}, indent=2, sort_keys=True)
    lines = [f"{'asset':34s} {'size':>8s}  {'state':10s} {'needed by':28s} licence"]
    for row in rows:
        needed = ", ".join(row["needed_by"]) or "-"
        how = "by hand" if row["by_hand"] and row["state"] == "missing" else row["state"]
        lines.append(f"{row['id']:34s} {_size(row):>8s}  {how:10s} {needed:28s} {row['licence']}")
    lines += [
        "",
        f"{'target':9s} {'branch':55s} {'assets':>6s} {'download':>9s} {'on disk':>9s} {'missing':>9s}",
    ]
    for total in totals:
        lines.append(
            f"{total['target']:9s} {total['branch']:55s} {total['assets']:6d} {gigabytes(total['bytes']):>9s}"
            f" {gigabytes(total['disk_bytes']):>9s} {gigabytes(total['missing_bytes']):>9s}"
        )
    lines += ["", f"{len(rows)} assets. Sizes without a published figure are about right; ~ marks them."]
    return "\n".join(lines)


def _row(asset: Asset, places: Places, record: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": asset.id,
        "what": asset.what,
        "bytes": asset.download_bytes,
        "exact": asset.bytes is not None,
        "disk_bytes": asset.unpacked_bytes,
        "state": state(asset, places, record),
        "needed_by": list(asset.needed_by),
        "only_if": dict(asset.only_if),
        "licence": asset.licence,
        "gate": asset.gate,
        "by_hand": not asset.fetchable,
        "checksum": "published" if asset.sha256 else "recorded" if record else "at first fetch",
    }


def _size(row: dict[str, Any]) -> str:
    return ("" if row["exact"] else "~") + gigabytes(row["bytes"])


def _totals(catalogue: Catalogue, rows: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    states = {row["id"]: row["state"] for row in rows}
    from_raw = {"features": "extract", "weights": "pretrain", "detector": "train", "annotations": "rebuild"}
    for branches in (DEFAULT_BRANCHES, from_raw):
        words = ", ".join(f"{name}: {branches[name]}" for name in ("features", "weights", "detector"))
        if branches is DEFAULT_BRANCHES:
            words = "features: download, weights: download"
        for targets in (*([name] for name in TARGETS), ["vqa", "gqa", "nlvr2"]):
            needed = catalogue.needed(targets, branches)
            missing = [asset for asset in needed if states[asset.id] != "ready"]
            yield {
                "target": "all tasks" if len(targets) > 1 else targets[0],
                "branch": words,
                "assets": len(needed),
                "bytes": sum(asset.download_bytes for asset in needed),
                "disk_bytes": sum(asset.unpacked_bytes for asset in needed),
                "missing_bytes": sum(asset.download_bytes for asset in missing),
            }


# plan


def _plan(args: argparse.Namespace, catalogue: Catalogue, settings: Settings) -> str:
    """The download of named targets, or of what the configuration's graph reads."""
    if args.names:
        places = Places(args.root.resolve(), args.corpus)
        branches = _branches(args)
        assets, crawled = catalogue.needed(args.names, branches), []
        title = ", ".join(args.names)
    else:
        plan = _graph(args)
        places = Places(args.root.resolve(), plan.corpus_name)
        branches, assets = plan.branches, needed_assets(plan, catalogue)
        crawled = crawled_assets(plan, catalogue)
        title = f"corpus {plan.corpus_name}: {', '.join(plan.config['tasks'])}"
        if not assets:
            return f"{title}: nothing to fetch; the graph makes its data itself."
    found = plan_download(assets, places, settings, crawled=crawled)
    if args.json:
        return json.dumps(found.to_json(), indent=2, sort_keys=True)
    return found.text(f"{title} with " + ", ".join(f"{name}: {value}" for name, value in branches.items()))


def _graph(args: argparse.Namespace) -> Plan:
    """The plan of the configuration, with branches changed by options."""
    path = args.config or args.root / "config.yaml"
    config = read_yaml(path) if path.is_file() else {"corpus": args.corpus}
    chosen = {name: getattr(args, name) for name in BRANCHES if getattr(args, name)}
    return load_plan({**config, **chosen}, str(path))


def _branches(args: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(args, name) or DEFAULT_BRANCHES[name] for name in BRANCHES}


# fetch


def _chosen(
    catalogue: Catalogue, names: list[str], targets: list[str], branches: dict[str, str], places: Places
) -> list[Asset]:
    if not (names or targets):
        raise SpecError("assets fetch: nothing named. Name assets or files, or a target with --for.")
    named = [catalogue[name] for name in names if "/" not in name]
    for place in (_place(name, places) for name in names if "/" in name):
        asset = catalogue.producer(place)
        # A derived file may have been brought without the one it is made of.
        if place not in [entry["place"] for entry in asset.derived] or not places.path(place).exists():
            named.append(asset)
    needed = catalogue.needed(targets, branches) if targets else []
    return list({asset.id: asset for asset in [*named, *needed]}.values())


def _place(name: str, places: Places) -> str:
    """`data/full/raw/vqa/x.json` as the catalogue writes it, `raw/vqa/x.json`."""
    path = Path(name)
    if path.is_absolute() and path.is_relative_to(places.root):
        path = path.relative_to(places.root)
    for top in ("raw", "weights"):
        folder = places.path(f"{top}/x").parent.relative_to(places.root)
        if path.is_relative_to(folder):
            return f"{top}/{path.relative_to(folder).as_posix()}"
    return path.as_posix()


def _fetch(assets: list[Asset], places: Places, settings: Settings, everything: bool) -> None:
    from lxmert.assets.fetch import fetch  # requests, which listing does without

    failed = []
    with StopSignal() as signal:
        for asset in assets:
            try:
                paths = fetch(
                    asset, places, settings, stopped=lambda: signal.requested, on_request=everything
                )
            except DownloadError as error:
                failed.append(str(error))
                log.warning("%s", error)
                continue
            for path in paths:
                print(places.shown(path))
    if failed:
        head = f"{len(failed)} of {len(assets)} assets were not fetched: " if len(assets) > 1 else ""
        raise DownloadError(head + " ".join(failed))


def _fetch_for_graph(
    args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings
) -> None:
    from lxmert.assets.fetch import fetch
    from lxmert.assets.receipt import is_brought, write_receipt

    if len(args.names) != 1:
        raise SpecError("assets fetch --out-receipt: one asset at a time. Name it.")
    asset = catalogue[args.names[0]]
    if not is_brought(asset, places, args.places):
        with StopSignal() as signal:
            fetch(
                asset,
                places,
                settings,
                stopped=lambda: signal.requested,
                on_request=args.everything,
                keep_own=True,
            )
    write_receipt(asset, places, args.out_receipt)


# verify and add


def _verify(catalogue: Catalogue, places: Places, names: list[str]) -> str:
    records = Lock(places.lock_file).read()
    chosen = [catalogue[name] for name in names] or list(catalogue.assets.values())
    lines, counts, wrong = [], dict.fromkeys(("ok", "missing", "changed", "unrecorded"), 0), []
    for asset in chosen:
        record = records.get(asset.id)
        for finding in verify(asset, places, record):
            counts[finding.verdict] += 1
            gone = finding.verdict == "missing" and finding.place in (record or {}).get("places", {})
            if finding.verdict == "changed" or gone:
                wrong.append(f"{places.shown(finding.path)} ({asset.id}) is {finding.verdict}")
            if finding.verdict != "missing" or gone or names:
                lines.append(f"{finding.verdict:10s} {places.shown(finding.path)}")
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    if wrong:
        print("\n".join(lines))
        raise DownloadError(
            f"{'; '.join(wrong)}. Remove what is changed, then: python -m lxmert assets fetch ID."
        )
    return "\n".join(lines)


def _add(args: argparse.Namespace, catalogue: Catalogue, places: Places, settings: Settings) -> None:
    from lxmert.assets.dropin import add

    if not args.names:
        raise SpecError("assets add: no file named. Name a file, a folder, or all pieces of a split archive.")
    for path in add([Path(name) for name in args.names], catalogue, places, settings, args.id, args.link):
        print(places.shown(path))
