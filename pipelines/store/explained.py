"""What clients of the store raise, as an error that says what, where and what next."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.errors import AccessError, ConfigError, DataError, EvergreenError, ServiceUnavailable, TransientError
from pipelines.store.address import is_far

STATUS = re.compile(r"(?<![\d.])\d{3}(?![\d.]*\d)")  # of HTTP; "after 2.140122 s" says nothing of a 401


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what pyarrow and Delta raise into an error that says what, where and what next."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except EvergreenError:
        raise
    except FileNotFoundError as error:
        raise DataError("there is nothing at this address", where=uri, cure="run the stage that writes it") from error
    except CommitFailedError as error:
        raise TransientError("another writer changed the table meanwhile", where=uri, cure="try again") from error
    except (DeltaError, OSError) as error:
        text = str(error)
        status = set(STATUS.findall(text))
        if "RequestTimeTooSkewed" in text:  # a 403, too
            raise AccessError(
                "the store's clock and this machine's are more than a quarter of an hour apart",
                where=f"{uri} at {os.environ.get('AWS_ENDPOINT_URL', 'AWS')}",
                cure="set the clock that is wrong (`date -u` says this machine's)",
            ) from error
        if status & {"401", "403"} or any(
            word in text
            for word in (
                "ACCESS_DENIED",
                "AccessDenied",
                "SignatureDoesNotMatch",
                "InvalidAccessKey",
                "Forbidden",
                "Unauthorized",
                "Unable to locate credentials",
                "ExpiredToken",
                "InvalidToken",
            )
        ):
            raise AccessError(
                "the store refused the credentials", where=uri, cure="check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            ) from error
        if any(word in text for word in ("NoSuchBucket", "NO_SUCH_BUCKET", "bucket does not exist")):
            raise ConfigError(
                "the bucket does not exist", where=uri, cure="create it, or correct EVERGREEN_STORE_URI"
            ) from error
        if "507" in status or any(word in text for word in ("No space left", "ENOSPC")):
            # A table on S3 is worked on in a folder of this machine; of its own disk a server says 507.
            where = tempfile.gettempdir() if is_far(uri) and "507" not in status else uri
            raise DataError("the disk is full", where=where, cure="free some space and run again") from error
        if status & {"500", "503"} or any(
            word in text
            for word in (
                "NETWORK_CONNECTION",
                "onnect",
                "timed out",
                "timeout",
                "error sending request",
                "SLOW_DOWN",
                "SlowDown",
            )
        ):
            raise ServiceUnavailable(
                "the store does not answer",
                where=f"{uri} at {os.environ.get('AWS_ENDPOINT_URL', 'AWS')}",
                cure="is it running? `evergreen up` starts the embedded one",
            ) from error
        raise DataError(
            f"the store failed: {text.splitlines()[0]}", where=uri, cure="look at the store's own log"
        ) from error
