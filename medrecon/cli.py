"""The command line: every command is a thin shell over one Python call.

Nothing heavy is imported until a command needs it, so ``medrecon --help`` stays quick; therefore
the imports inside the commands.  This is the only module that prints.
"""

from __future__ import annotations

import difflib
import json
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

import medrecon
from medrecon.errors import MedreconError, OutputError, ResourceError, UnreadableError, UsageError

if TYPE_CHECKING:
    from medrecon.reconstruct import Event

_R = TypeVar("_R")
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_CHECKPOINT = "checkpoint.safetensors"
_PLANES = ("axial", "coronal", "sagittal")
_PLAIN_SECONDS = 10.0  # between two progress lines where there is no terminal

app = typer.Typer(
    name="medrecon",
    help="Medical volumes from what the scanner really measured. Research use, not for diagnosis.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ProtocolArgument = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="A YAML file or the name of a shipped protocol.")
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting: sampler.steps=10."),
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of all randomness.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _version(show: bool) -> None:
    if show:
        print(f"medrecon {medrecon.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Medical volumes from what the scanner really measured. Research use, not for diagnosis."""


@app.command()
def run(
    protocol: ProtocolArgument,
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="Measurements: see info.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")],
    set_: SetOption = [],  # noqa: B006
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Reconstruct measurements: NIfTI, DICOM, preview and run.json."""
    from medrecon.protocol_files import load_protocol

    settings = load_protocol(protocol, set_)
    _not_standard_input(input_)

    from medrecon.devices import resolve_device

    where = resolve_device(device)
    path = _existing(input_)

    from medrecon.info import check_study
    from medrecon.io.outputs import OutputFolder
    from medrecon.io.read import read_study
    from medrecon.reconstruct import reconstruct
    from medrecon.write import output_bytes, write_result

    study = read_study(path)
    check_study(study, settings)
    needed = output_bytes(study, settings)
    with OutputFolder(output, overwrite=overwrite, needed_bytes=needed) as folder:
        result = _follow(reconstruct(study, settings, seed=seed, device=where), quiet)
        files = write_result(result, study, settings, folder, seed=seed)
    _say(f"{output}: {', '.join(files)}")


@app.command()
def simulate(
    protocol: ProtocolArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI file or DICOM folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Measurement file to make (.h5).")],
    set_: SetOption = [],  # noqa: B006
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure an image with a protocol's scanner, and write the measurements."""
    from medrecon.protocol_files import load_protocol

    settings = load_protocol(protocol, set_)
    _free_file(output, overwrite)
    path = _existing(image)

    from medrecon.io.read import read_image
    from medrecon.simulate import simulate as measure
    from medrecon.simulate import write_study
    from medrecon.volume import Unit

    # NIfTI does not say its unit: a CT protocol takes it as HU.
    unit = Unit.HU if settings.modality == "CT" else Unit.ARBITRARY
    volume, identity = read_image(path, unit=unit)
    study = measure(volume, settings, seed=seed, identity=identity)
    write_study(output, study)
    _say(f"{output}: {study.modality} measurements {tuple(study.measurements.shape)}")


@app.command()
def validate(
    protocol: ProtocolArgument,
    input_: Annotated[
        Path | None, typer.Argument(metavar="[INPUT]", help="Check that these data fit, too.")
    ] = None,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Check a protocol, and whether measurements fit it, without reconstructing."""
    from medrecon.protocol_files import load_protocol

    settings = load_protocol(protocol, set_)
    _say(f"protocol {settings.name}: valid, {settings.title}")
    if input_ is None:
        return
    path = _existing(input_)

    from medrecon.info import check_study, describe_study
    from medrecon.io.read import read_study

    study = read_study(path)
    check_study(study, settings)
    _show(describe_study(study))
    _say(f"{path.name} fits {settings.name}")


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Measurements, image or series.")],
    as_json: JsonOption = False,
) -> None:
    """Say what a file holds: shapes, geometry, voxel sizes; never whose it is."""
    path = _existing(file)

    from medrecon.info import describe

    facts = describe(path)
    if as_json:
        _say(json.dumps(facts, indent=2, allow_nan=False))
    else:
        _show(facts)


@app.command()
def protocols() -> None:
    """List the protocols that come with medrecon."""
    from medrecon.protocol_files import shipped_protocols

    _show(shipped_protocols())


@app.command()
def priors() -> None:
    """List the trained priors that come with medrecon."""
    from medrecon.priors.weights import shipped_priors

    for card in shipped_priors():
        _say(f"{card.name}  {card.title}; {card.modality}, {card.licence}")


@app.command()
def compare(
    image: Annotated[Path, typer.Argument(metavar="A", help="The volume that is judged.")],
    reference: Annotated[Path, typer.Argument(metavar="B", help="The volume that is true.")],
    data_range: Annotated[
        float | None, typer.Option(help="Range for PSNR and SSIM; default: max - min of B.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two volumes: PSNR, SSIM, NRMSE, with the data range said."""
    paths = [_existing(image), _existing(reference)]

    from medrecon.compare import compare as measure
    from medrecon.io.read import read_image

    first, second = (read_image(path)[0] for path in paths)
    metrics = measure(first, second, data_range)
    if as_json:
        _say(json.dumps(metrics.as_json(), indent=2, allow_nan=False))
        return
    _say(f"PSNR   {metrics.psnr:.2f} dB")
    for plane, value in metrics.ssim_per_plane.items():
        _say(f"SSIM   {value:.4f} ({plane})")
    _say(f"NRMSE  {metrics.nrmse:.4f}")
    _say(f"range  {metrics.data_range:g}")


@app.command()
def train(
    slices: Annotated[Path, typer.Argument(metavar="SLICES", help="HDF5 training slices.")],
    validation: Annotated[
        Path, typer.Option(help="HDF5 slices of other patients, to measure the denoising.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Prior folder to make; resumed if there.")
    ],
    modality: Annotated[str, typer.Option(help="ct or mr.")],
    minutes: Annotated[float, typer.Option(min=0.01, help="How long; the schedule follows.")],
    name: Annotated[str, typer.Option(help="Default: the folder's name.")] = "",
    title: Annotated[str, typer.Option(help="What it is for. Default: the name.")] = "",
    sources: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="List of {name, licence, citation} of the data."),
    ] = None,
    widths: Annotated[str, typer.Option(help="Channels per level of the network.")] = "48,96,160",
    blocks: Annotated[int, typer.Option(min=1, max=16, help="Blocks per level.")] = 2,
    learning_rate: Annotated[float, typer.Option(min=1e-7, max=1.0, help="Peak rate.")] = 8e-4,
    pixels_per_step: Annotated[int, typer.Option(min=4096, help="Batch, in pixels.")] = 65536,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Train a slice prior; prints loss and denoising PSNR, and leaves a folder to use as prior."""
    kind = _modality(modality)
    levels = _widths(widths)
    _prior_folder_to_make(output)
    paths = [_existing(slices), _existing(validation)]

    from medrecon.devices import resolve_device
    from medrecon.io.slices import read_pixel_range, read_slices
    from medrecon.priors import training
    from medrecon.priors.card import Source, read_sources
    from medrecon.priors.export import UNKNOWN_LIMITATIONS, export_prior

    plan = training.TrainingPlan(
        modality=kind,
        minutes=minutes,
        widths=levels,
        blocks=blocks,
        sigma_data=training.SIGMA_DATA[kind],
        learning_rate=learning_rate,
        pixels_per_step=pixels_per_step,
        seed=seed,
    )
    where = resolve_device(device)
    known = read_sources(_existing(sources)) if sources else ()
    pixel_mm = read_pixel_range(slices)
    data, held_out = (read_slices(path, kind) for path in paths)
    batch = training.validation_batch(held_out, kind)
    checkpoint = _make_folder(output) / _CHECKPOINT
    for progress in training.train(plan, data, batch, checkpoint, where):
        scores = " ".join(f"{sigma:g}:{psnr:.2f}" for sigma, psnr in progress.psnr.items())
        _say(
            f"step {progress.step}, {progress.seconds:.0f} s, loss {progress.loss:.4f}, "
            f"PSNR in dB at sigma {scores}"
        )
    name = name or output.resolve().name
    export_prior(
        checkpoint,
        output,
        plan,
        batch,
        name=name,
        title=title or name,
        sources=known or (Source(name=slices.name, licence="not stated"),),
        pixel_mm=pixel_mm,
        licence="not stated; see the licences of the data",
        limitations=UNKNOWN_LIMITATIONS,
    )
    _say(f"{output}: prior {name}; use it with --set prior.name={output}")


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to make.")] = Path(
        "out/demo"
    ),
    data: Annotated[Path, typer.Option(help="The sample scans of the source tree.")] = Path("data"),
    quick: Annotated[
        bool, typer.Option("--quick", help="A few slices and steps: that it works, not how well.")
    ] = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
) -> None:
    """Reconstruct a real chest CT and a real brain MR beside the classical methods."""
    from medrecon.demo import demo as events
    from medrecon.devices import resolve_device

    where = resolve_device(device)
    summary = _follow(events(output, data, quick=quick, seed=seed, device=where), quiet=False)
    for case, methods in summary.items():
        _say(f"\n{case:16}  PSNR dB   SSIM: {'axial':>7} {'coronal':>8} {'sagittal':>8}   seconds")
        for method, figures in methods.items():
            planes = figures["ssim_per_plane"]
            shown = [f"{planes[p]:.4f}" if p in planes else "-" for p in _PLANES]
            _say(
                f"  {method:14}  {figures['psnr']:7.2f}         {shown[0]:>7} {shown[1]:>8} "
                f"{shown[2]:>8}   {figures['seconds']:7.1f}"
            )
    _say(f"\n{output}: pictures (preview.png), volumes and summary.json")


@app.command()
def doctor() -> None:
    """Report versions, devices, memory, disk and optional parts of this installation."""
    from medrecon.doctor import examine

    for section, facts in examine(Path.cwd()).items():
        _say(f"[{section}]")
        _show(facts)


def main() -> None:
    """Entry point of the ``medrecon`` program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))
    sys.exit(invoke(sys.argv[1:]))


def invoke(arguments: list[str]) -> int:
    """Run one command line and return its exit code; a known failure is one line on stderr."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", category=UserWarning, module=r"medrecon\b")
        warnings.showwarning = _show_warning
        try:
            code = app(args=arguments or ["--help"], prog_name="medrecon", standalone_mode=False)
        except MedreconError as error:
            return _fail(str(error), error.exit_code)
        except typer.TyperException as error:
            return _fail(_usage(error), EXIT_USAGE)
        except (KeyboardInterrupt, typer.Abort):
            return _fail("interrupted, nothing was written.", EXIT_INTERRUPTED)
        except Exception as error:
            return _unexpected(error)
    if code == EXIT_INTERRUPTED:
        return _fail("interrupted, nothing was written.", EXIT_INTERRUPTED)
    return code if isinstance(code, int) else 0


def _unexpected(error: Exception) -> int:
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in text:
        return _fail(
            "not enough memory; use a smaller prior.batch or grid.", ResourceError.exit_code
        )
    if isinstance(error, MemoryError):
        return _fail("not enough memory; use a smaller grid.", ResourceError.exit_code)
    traceback.print_exc()
    return _fail(f"internal error, please report it: {type(error).__name__}: {text}", EXIT_BUG)


def _fail(text: str, code: int) -> int:
    _line(f"medrecon: error: {text}")
    return code


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _line(f"medrecon: warning: {message}")


def _line(text: str) -> None:
    """One line on stderr, whatever a file name or a header put into the text."""
    clean = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    print(clean.encode("utf-8", "replace").decode(), file=sys.stderr)


def _say(text: str) -> None:
    print(text, flush=True)


def _usage(error: typer.TyperException) -> str:
    """Typer's message in our one sentence, with the nearest command or option."""
    message = error.format_message().replace("\n", " ").rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command", None)
    wrong = getattr(error, "option_name", None)
    if wrong and message.startswith("No such option"):
        known = [o for p in getattr(command, "params", []) for o in p.opts if o.startswith("--")]
        close = difflib.get_close_matches(wrong, [*known, "--help"], 1, 0.5)
        hint = f", did you mean {close[0]}?" if close else ", see --help."
        return f"no such option {wrong}{hint}"
    if message.endswith("?"):
        return message
    return f"{message}, see medrecon --help."


def _not_standard_input(path: Path) -> None:
    if str(path) == "-":
        raise UsageError("standard input is not read; give the name of a file.")


def _existing(path: Path) -> Path:
    _not_standard_input(path)
    try:
        found = path.exists()
    except OSError:  # a name that no file can have
        found = False
    if not found:
        raise UnreadableError(f"{path} does not exist.")
    return path


def _free_file(path: Path, overwrite: bool) -> None:
    if path.exists() and not (overwrite and path.is_file()):
        raise OutputError(f"{path} exists; choose another name or use --overwrite.")
    if not path.parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first.")


def _modality(text: str) -> Literal["ct", "mr"]:
    kinds: dict[str, Literal["ct", "mr"]] = {"ct": "ct", "mr": "mr"}
    if text not in kinds:
        raise UsageError(f"--modality {text!r}: use ct or mr.")
    return kinds[text]


def _widths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    whole = all(part.strip().isdecimal() and len(part) <= 6 for part in parts)
    widths = tuple(int(part) for part in parts) if whole else ()
    if not 1 <= len(widths) <= 6 or not all(8 <= n <= 4096 and n % 8 == 0 for n in widths):
        raise UsageError(
            f"--widths {text!r}: expected up to six multiples of 8, such as 48,96,160."
        )
    return widths


def _prior_folder_to_make(path: Path) -> None:
    """Accept a free name, an empty folder, or one with a checkpoint to go on from."""
    if not path.absolute().parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; create it first.")
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; a prior is a folder, choose another name.")
    if path.is_dir() and any(path.iterdir()) and not (path / _CHECKPOINT).is_file():
        raise OutputError(f"{path} holds no {_CHECKPOINT} to go on from; choose another name.")


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made: {error.strerror}.") from None
    return path


def _show(facts: dict[str, Any], indent: str = "") -> None:
    width = max((len(key) for key in facts), default=0)
    for key, value in facts.items():
        if isinstance(value, dict):
            _say(f"{indent}{key}")
            _show(value, indent + "  ")
        else:
            shown = " x ".join(map(str, value)) if isinstance(value, list) else value
            _say(f"{indent}{key:{width}}  {shown}")


def _follow(events: Generator[Event, None, _R], quiet: bool) -> _R:
    """Show progress until the generator returns its result."""
    with _reporter(quiet) as report:
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: _R = end.value
                return result
            report(event)


@contextmanager
def _reporter(quiet: bool) -> Iterator[Any]:
    if quiet:
        yield lambda event: None
    elif sys.stdout.isatty():
        with _bar() as report:
            yield report
    else:
        yield _Plain()


@contextmanager
def _bar() -> Iterator[Any]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[residual]}"),
    )
    tasks: dict[str, Any] = {}
    with Progress(*columns) as progress:

        def report(event: Event) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = progress.add_task(event.stage, residual="")
            progress.update(
                tasks[event.stage],
                completed=event.step,
                total=event.steps,
                residual="" if event.residual is None else f"residual {event.residual:.1e}",
            )

        yield report


class _Plain:
    """A line at the end of every stage and every few seconds in between."""

    def __init__(self) -> None:
        self.start = self.last = time.monotonic()

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.step < event.steps and now - self.last < _PLAIN_SECONDS:
            return
        self.last = now
        residual = "" if event.residual is None else f", residual {event.residual:.1e}"
        _say(f"{event.stage} {event.step}/{event.steps}, {now - self.start:.0f} s{residual}")


if __name__ == "__main__":
    main()
