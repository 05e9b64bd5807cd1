"""The command line: one verb per arrow of the graph; each imports its own work when it is chosen."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
import time
from collections.abc import Sequence

from lxmert import __version__
from lxmert.errors import Interrupted, LxmertError, suggest
from lxmert.files import explain_os_error
from lxmert.memory import explained
from lxmert.progress import configure_logging, duration
from lxmert.slurm import heed_term, requeue

log = logging.getLogger(__name__)

# Exit statuses: 2 for a mistake a user can mend, 75 (EX_TEMPFAIL) for work that was stopped and saved.
USER_ERROR, STOPPED = 2, 75

# verb -> (module with add_arguments and run, what it does)
VERBS: dict[str, tuple[str, str]] = {
    "generate": ("lxmert.world.cli", "draw the embedded corpus and write its official raw files"),
    "list-images": ("lxmert.data.images_cli", "list the images of an image set"),
    "vocabulary": ("lxmert.data.vocabulary_cli", "train a WordPiece vocabulary on raw texts"),
    "draw-minival": ("lxmert.tasks.minival_cli", "draw the images that VQA is selected on"),
    "prepare": ("lxmert.tasks.prepare_cli", "turn official raw files into examples"),
    "vg-vocabulary": ("lxmert.detector.vg_vocabulary_cli", "count Visual Genome's names into vocabularies"),
    "train-detector": ("lxmert.detector.train_cli", "train the bottom-up-attention detector"),
    "convert-detector": ("lxmert.detector.convert_cli", "published detector weights into ours, and back"),
    "doctor": ("lxmert.detector.doctor_cli", "check extraction here against shipped numbers, stage by stage"),
    "evaluate-detector": ("lxmert.detector.evaluate_cli", "average precision of the detector"),
    "describe": ("lxmert.detector.describe_cli", "regions of single images, printed, drawn and kept"),
    "extract": ("lxmert.detector.extract_cli", "region features of one shard of an image set"),
    "merge": ("lxmert.data.merge_cli", "join shards into one region store"),
    "store": ("lxmert.data.store_cli", "describe or check a region store; import and export other forms"),
    "pretrain": ("lxmert.training.pretrain_cli", "pretrain a system"),
    "convert": ("lxmert.convert.cli", "weights of the original code or transformers into ours, and back"),
    "finetune": ("lxmert.training.finetune_cli", "fine-tune a system on one task"),
    "take-finetuned": ("lxmert.convert.take_cli", "published fine-tuned weights in the place of a run's own"),
    "bench": (
        "lxmert.training.bench_cli",
        "examples a second of a run's loader and of its model",
    ),
    "predict": ("lxmert.training.predict_cli", "answer a split and write its submission file"),
    "score": ("lxmert.tasks.score_cli", "score a submission file against public labels"),
    "check-submission": ("lxmert.tasks.check_cli", "check a file of answers against a server's phase"),
    "overlap": ("lxmert.splits.cli", "which photographs of each split training has seen"),
    "own-data": ("lxmert.custom.data_cli", "read your own examples: checks, splits, answer coverage"),
    "own-boxes": ("lxmert.custom.boxes_cli", "your own boxes as the detector reads them"),
    "assets": ("lxmert.assets.cli", "list, plan, fetch, verify or add published files"),
    "registry": ("lxmert.registry.cli", "compare scores with the values on record"),
    "report": ("lxmert.report.cli", "tables, curves and example panels as one page"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    known, _ = parser.parse_known_args([item for item in arguments if item not in ("-h", "--help")])
    if known.verb is None:
        parser.parse_args(arguments)  # --help, --version
        parser.print_help()
        return USER_ERROR
    configure_logging(known.debug, rank=int(os.environ.get("RANK", "0")))
    if known.verb not in VERBS:
        print(f"lxmert: {known.verb}: unknown verb.{suggest(known.verb, VERBS)}", file=sys.stderr)
        return USER_ERROR
    try:
        heed_term()
        return _chosen(known, arguments)
    except Interrupted as error:
        return _stopped(error, known.verb)


def _chosen(known: argparse.Namespace, arguments: list[str]) -> int:
    # Before torch is imported, which reads it once.
    os.environ["OMP_NUM_THREADS"] = str(known.threads)
    module = importlib.import_module(VERBS[known.verb][0])
    verb_parser = argparse.ArgumentParser(prog=f"lxmert {known.verb}", description=module.__doc__)
    module.add_arguments(verb_parser)
    _add_global_arguments(verb_parser)
    common, own = _common_parser().parse_known_args(_without_verb(arguments, known.verb))
    args = verb_parser.parse_args(own, namespace=common)
    if args.workers and not getattr(module, "USES_WORKERS", False):
        log.warning("--workers %d: %s loads its data itself and starts none", args.workers, known.verb)
    return _run(module.run, args, known.verb)


def _run(run, args: argparse.Namespace, verb: str) -> int:  # type: ignore[no-untyped-def]
    began = time.monotonic()
    log.info("lxmert %s %s, %d threads", __version__, verb, args.threads)
    try:
        run(args)
    except LxmertError as error:
        return _failed(error, args.debug, verb)
    except Interrupted as error:
        return _stopped(error, verb)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # the last resort: who opens a file knows better what to say
        return _failed(explain_os_error(error, error.filename or verb), args.debug, verb)
    except (RuntimeError, MemoryError) as error:
        told = explained(error, verb)
        if told is None:
            raise
        return _failed(told, args.debug, verb)
    log.info("%s: done in %s", verb, duration(time.monotonic() - began))
    return 0


def _stopped(error: Interrupted, verb: str) -> int:
    log.info("%s: stopped: %s. Run the same command again to go on.", verb, error)
    requeue()
    return STOPPED


def _failed(error: LxmertError, debug: bool, verb: str) -> int:
    if debug:
        log.exception("%s failed", verb)
    print(" ".join(str(error).split()), file=sys.stderr)
    return USER_ERROR


def _parser() -> argparse.ArgumentParser:
    verbs = "\n".join(f"  {verb:18s}{what}" for verb, (_, what) in VERBS.items())
    parser = argparse.ArgumentParser(
        prog="lxmert",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="From raw images to a file a leaderboard accepts.",
        epilog=f"verbs:\n{verbs}\n\n`lxmert VERB --help` lists a verb's own options.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_global_arguments(parser)
    parser.add_argument("verb", nargs="?", metavar="VERB")
    return parser


def _common_parser() -> argparse.ArgumentParser:
    """Takes the options of every verb wherever they stand, behind a verb's own action too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_global_arguments(parser)
    return parser


def _add_global_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("options of every verb")
    group.add_argument("--debug", action="store_true", help="show tracebacks and debug lines")
    group.add_argument("--gpus", type=_count, default=0, help="devices to use; 0 runs on the CPU")
    group.add_argument(
        "--threads", type=_positive, default=os.cpu_count() or 1, help="threads of one process"
    )
    group.add_argument(
        "--workers", type=_count, default=0, help="processes that load data, where a verb starts any"
    )


def _without_verb(arguments: list[str], verb: str) -> list[str]:
    position = arguments.index(verb)
    return arguments[:position] + arguments[position + 1 :]


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}: must be 0 or more")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return value
