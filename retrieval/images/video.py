"""Videos: how long they are, and single frames of them, through PyAV."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Iterator

from PIL import ExifTags, Image

from retrieval.errors import ImageError
from retrieval.images.frames import as_file
from retrieval.images.limits import megapixels_of_environment, refuse_bombs

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ogv".split()
)
_BT709, _UNSPECIFIED = 1, 2  # FFmpeg's numbers of colour matrices
_HD_LINES = 720  # from here on, a video that does not name its colours means BT.709
# A seek may land behind its aim where a container has no index; then it begins so much earlier.
_SECONDS_AHEAD = 20.0


def duration(path: Path) -> float:
    """Seconds from the first picture to the end of the last. Raises ImageError."""
    with _opened(path) as (container, stream):
        seconds = _told_duration(container, stream)
        return _counted_duration(container, stream) if seconds is None else seconds


def video_frame(path: Path, seconds: float) -> bytes:
    """What is shown at a time, as an image file: upright, sRGB, dated if the video is.

    seconds  from the first picture; behind the end, the last one is given

    Decodes from the nearest keyframe before. Safe to call from threads. Raises ImageError.
    """
    for begin in (seconds, seconds - _SECONDS_AHEAD, 0.0):
        with _opened(path) as (container, stream):
            tick = stream.time_base
            start = stream.start_time or 0
            # To the millisecond, as addresses are, and to the tick.
            aim = start + Fraction(seconds) / tick + max(Fraction(1, 2), Fraction(1, 2000) / tick)
            if begin > 0:
                container.seek(start + int(begin / tick), stream=stream)
            frame = _last_before(container.decode(stream), aim)
            if frame is not None and (begin <= 0 or frame.pts is not None and frame.pts <= aim):
                return as_file(_upright(frame, stream), _dated(container, seconds))
        if begin <= 0:
            break
    raise ImageError(f"no picture can be decoded at {seconds:g} seconds; it may be truncated")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its stream of pictures."""
    try:
        import av
    except ImportError as error:
        raise ImageError("video needs PyAV: pip install 'crossmodal-retrieval[video]'") from error
    try:
        if not path.stat().st_size:
            raise ImageError("the file is empty")
        with av.open(str(path)) as container:
            cover = av.stream.Disposition.attached_pic
            streams = [one for one in container.streams.video if not one.disposition & cover]
            if not streams:
                raise ImageError("no pictures can be found in it; it may be sound alone, or truncated")
            # The frames of a video are read side by side; threads within each would be too many.
            streams[0].codec_context.thread_count = 1
            yield container, streams[0]
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # damaged files surface from the decoders as almost anything
        raise ImageError(f"damaged or truncated ({getattr(error, 'strerror', error)})") from error


def _told_duration(container: Any, stream: Any) -> float | None:
    """As the container says; None if it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    try:  # Matroska: of this stream; the sound may be longer
        hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
        end = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        return end - float((stream.start_time or 0) * stream.time_base)
    except ValueError:
        return container.duration / 1e6 if container.duration else None


def _counted_duration(container: Any, stream: Any) -> float:
    """By the times of all packets, for videos that were written without an end in sight."""
    start = stream.start_time or 0
    ends = (one.pts + (one.duration or 0) for one in container.demux(stream) if one.pts is not None)
    return float((max(ends, default=start) - start) * stream.time_base)


def _last_before(frames: Iterator[Any], aim: Fraction) -> Any:
    """The last one that begins at `aim` or before, else the first; None if there is none."""
    last = None
    try:
        for frame in frames:
            late = frame.pts is not None and frame.pts > aim
            if last is None or not late:
                last = frame
            if late:
                break
    except Exception:  # what comes behind is damaged
        if last is None:
            raise
    return last


def _upright(frame: Any, stream: Any) -> Image.Image:
    """With square pixels, turned as the video says."""
    shape = Fraction(stream.sample_aspect_ratio or 1)
    guessed = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    width = max(1, round(frame.width * shape))
    refuse_bombs((width, frame.height), megapixels_of_environment())  # a damaged shape may be anything
    image = frame.to_image(
        width=width, src_colorspace=_BT709 if guessed else None
    )
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _dated(container: Any, seconds: float) -> Image.Exif:
    """With the time at which the frame was taken, where the camera wrote when it began."""
    exif = Image.Exif()
    tags = container.metadata
    # Apple's is local time; the other one is UTC by its definition, and local by many a camera.
    written = tags.get("com.apple.quicktime.creationdate") or tags.get("creation_time") or ""
    try:
        begun = datetime.strptime(written[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return exif
    taken = (begun + timedelta(seconds=seconds)).strftime("%Y:%m:%d %H:%M:%S")
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
    return exif
