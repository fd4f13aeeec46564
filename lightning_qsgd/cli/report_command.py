"""The command ``lightning-qsgd report``: rebuilds the report from what is stored."""

from pathlib import Path

from rich.console import Console

from lightning_qsgd.cli.outcome import publish
from lightning_qsgd.cli.suggesting_parser import SuggestingParser
from lightning_qsgd.compare.results.results_folder import load_results, save_results
from lightning_qsgd.compare.run_comparison import collect
from lightning_qsgd.compare.running.folder_lock import locked
from lightning_qsgd.compare.running.stored_run import RunStore


def report_command(arguments: list[str]) -> None:
    """Rebuild the report of a comparison, also of one that was interrupted.

    Args:
        arguments: What follows ``report`` on the command line.

    Raises:
        SystemExit: With status 2 if the folder holds no comparison.
        RuntimeError: If a comparison is running in the folder.
    """
    parser = SuggestingParser(prog="lightning-qsgd report", description=__doc__)
    parser.add_argument("folder", type=str, help="Folder of the comparison.")
    folder = Path(parser.parse_args(arguments).folder)
    try:
        results = load_results(folder)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error), error)
    with locked(folder):
        if (folder / "runs").is_dir():  # else the folder holds the results alone
            results = collect(results, RunStore(folder))
            save_results(results, folder)
        publish(results, folder, Console())
