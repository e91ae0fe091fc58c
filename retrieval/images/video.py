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

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .wmv .flv .3gp .mts .m2ts .ogv".split()
)
_BT709, _UNSPECIFIED = 1, 2  # FFmpeg's numbers of colour matrices
_HD_LINES = 720  # from here on, a video that does not name its colours means BT.709
# A seek may land behind its aim where a container has no index; then from further ahead.
_SECONDS_AHEAD = (0, 20)


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
    with _opened(path) as (container, stream):
        frame = _shown_at(container, stream, seconds)
        if frame is None:
            raise ImageError(f"no picture can be decoded at {seconds:g} seconds; it may be truncated")
        return as_file(_upright(frame, stream), _dated(container, seconds))


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
                raise ImageError("there are no pictures in it")
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
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return container.duration / 1e6 if container.duration else None


def _counted_duration(container: Any, stream: Any) -> float:
    """By the times of all packets, for videos that were written without an end in sight."""
    start = stream.start_time or 0
    ends = (one.pts + (one.duration or 0) for one in container.demux(stream) if one.pts is not None)
    return float((max(ends, default=start) - start) * stream.time_base)


def _shown_at(container: Any, stream: Any, seconds: float) -> Any:
    """The last frame that begins at `seconds` or before, else the first one there is."""
    start = stream.start_time or 0
    # Half a tick more: times are written in decimals, and most of a clock's ticks are not.
    aim = start + Fraction(seconds) / stream.time_base + Fraction(1, 2)
    # A millisecond is as fine as addresses are.
    aim += Fraction(1, 2000) / stream.time_base
    found = None
    for ahead in _SECONDS_AHEAD:
        back = int(aim - ahead / stream.time_base)
        if back <= start:
            break
        container.seek(back, stream=stream)
        found = _last_before(container, stream, aim)
        if found is not None and found.pts is not None and found.pts <= aim:
            return found
    container.seek(start, stream=stream)
    return _last_before(container, stream, aim) or found


def _last_before(container: Any, stream: Any, aim: Fraction) -> Any:
    """Of the frames from here on; the first one if all are later."""
    import av

    last = None
    try:
        for frame in container.decode(stream):
            if last is not None and frame.pts is not None and frame.pts > aim:
                break
            last = frame
            if frame.pts is not None and frame.pts > aim:
                break
    except av.FFmpegError:
        if last is None:
            raise
    return last


def _upright(frame: Any, stream: Any) -> Image.Image:
    """With square pixels, turned as the video says."""
    shape = Fraction(stream.sample_aspect_ratio or 1)
    guessed = frame.colorspace == _UNSPECIFIED and frame.height >= _HD_LINES
    image = frame.to_image(
        width=round(frame.width * shape), src_colorspace=_BT709 if guessed else None
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
