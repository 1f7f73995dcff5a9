"""What the parent process shows of a run once it has ended, whatever way it ended."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from training.report.page import write_report

logger = logging.getLogger(__name__)


def publish(folder: Path) -> None:
    """Write the report; one that cannot be written is no reason to fail a run.

    Args:
        folder: Of a run or a pipeline, its state written.
    """
    try:
        write_report(folder)
    except KeyboardInterrupt:
        logger.warning("the report of %s was left out: Ctrl-C", folder)
    except Exception as error:
        log = folder / "logs" / "report.log"
        logger.warning("the report could not be written: %s (traceback in %s)", error, log)
        try:
            log.parent.mkdir(exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:
            return
