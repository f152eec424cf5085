"""
Every command there is, declared: the one list that both command lines are made of.

Options that every command has stand here once. A registry's place is told by ``--registry``; Airflow's command line
adds its connection, and its commands for workers and pools.
"""

from __future__ import annotations

from airflow_provider_hfreg.commands.definition import Argument, Command, Group, argument
from airflow_provider_hfreg.commands.values import age, json_pair, row_limit, tag_filter, tag_pair
from airflow_provider_hfreg.pipelines.precisions import PRECISION_NAMES

REGISTRY = argument(
    "--registry",
    metavar="URL",
    help="where the registry is: s3://bucket/prefix, file:///folder or a folder",
)
AS_JSON = argument("--json", action="store_true", help="print JSON, for scripts")
YES = argument("--yes", action="store_true", help="do it; without it, only say what would be done")
_CONSENT = argument(
    "--trust-remote-code", action="store_true", help="I have read the Python files that come with the model"
)
_REFERENCE = argument("reference", metavar="MODEL/VERSION", help="or MODEL@ALIAS, or MODEL for its default version")
_ABOUT = argument(
    "reference",
    metavar="MODEL[/VERSION]",
    help="or MODEL@ALIAS; a bare name means the model itself, and MODEL@DEFAULT its default version",
)
_TAGS = argument(
    "--tag", action="append", default=[], type=tag_pair, metavar="KEY=VALUE", help="a tag; may be given again"
)
_METRICS = argument(
    "--metric", action="append", default=[], type=json_pair, metavar="NAME=JSON", help="a metric; may be given again"
)
_PARAMS = argument(
    "--param",
    action="append",
    default=[],
    type=json_pair,
    metavar="NAME=JSON",
    help="an argument of the pipeline, such as top_k=2; may be given again",
)


def _command(name: str, help: str, work: str, *arguments: Argument, **more: object) -> Command:  # noqa: A002 - as argparse
    """Return a command with what all have."""
    return Command(name, help, work, (*arguments, REGISTRY, AS_JSON), **more)  # type: ignore[arg-type]


_LOOK = (
    _command("models", "List the models", "looking:models"),
    _command(
        "versions",
        "List the versions of a model, oldest first",
        "looking:versions",
        argument("model", metavar="MODEL"),
        examples=("versions finbert", "versions finbert --json"),
    ),
    _command(
        "show",
        "Show one version: its functions, files, tags, metrics, and where it comes from",
        "looking:show",
        _REFERENCE,
        argument(
            "--used-in",
            action="append",
            default=[],
            metavar="URL",
            help="also list the batch runs that used it and whose output lies in or below this folder",
        ),
        description="Show one version: its functions and their columns, files, tags, metrics, and where it comes "
        "from.\nThe registry does not know who used a version, because a batch run has only the right to read\nthere. "
        "--used-in looks at the outputs of runs instead: each says which version made it.",
        examples=("show finbert/v1", "show finbert@champion", "show finbert/v1 --used-in s3://lake/scores"),
    ),
    _command(
        "search",
        "Find versions by task, tags and metrics, over all models",
        "looking:search",
        argument("--task", metavar="TASK", help="such as text-classification"),
        argument(
            "--tag",
            action="append",
            default=[],
            type=tag_filter,
            metavar="KEY[=VALUE]",
            help="the tag is there, with this value; may be given again",
        ),
        argument(
            "--metric",
            action="append",
            default=[],
            metavar="COMPARISON",
            help="such as 'accuracy >= 0.9' (quote it: > is the shell's); may be given again",
        ),
        argument("--models", default="*", metavar="PATTERN", help="only these models, such as 'fin*'"),
        description="Find versions that fit all that is given. Every version of the models in question is read: "
        "narrow --models\nwhere a registry holds many. A version that lacks a metric fits no comparison of it.",
        examples=("search --task text-classification --metric 'accuracy >= 0.9'", "search --tag team=risk"),
    ),
)

_CHANGE = (
    _command(
        "log",
        "Log a folder, or a model of the Hugging Face hub, as a version",
        "publishing:log",
        argument("source", metavar="SOURCE", help="a folder, a URL of one, or hub:OWNER/NAME"),
        argument("--model", required=True, metavar="NAME", help="the model's name; it begins with its first version"),
        argument("--version", metavar="NAME", help="default: one is made, such as calm_otter_42"),
        argument("--task", required=True, metavar="TASK", help="the pipeline task, such as text-classification"),
        _PARAMS,
        argument("--comment", metavar="TEXT"),
        _TAGS,
        _METRICS,
        argument(
            "--training-data", action="append", default=[], metavar="URL", help="what it was trained on; kept, not read"
        ),
        argument("--cuda-version", default="12.4", metavar="X.Y", help="'none': never runs on a GPU; default: 12.4"),
        argument("--revision", metavar="REV", help="branch, tag or commit of a hub model; pinned to its commit"),
        argument("--alias", action="append", default=[], metavar="NAME", help="point this alias to it"),
        argument("--default", action="store_true", help="make it the model's default version"),
        _CONSENT,
        description="Log a folder, or a model of the Hugging Face hub, as a version. Files are streamed; no weights "
        "are loaded.\nWith --version, an interrupted command can be repeated: the same content under the same name "
        "changes nothing.\nWithout it, each time makes another version, of the same stored files.\n"
        "For private hub models set HF_TOKEN; it is used for the download and stored nowhere.",
        examples=(
            "log ./out/finbert --model finbert --task text-classification --metric accuracy=0.91",
            "log hub:ProsusAI/finbert --model finbert --version v1 --task text-classification --param top_k=2",
        ),
    ),
    _command(
        "alias",
        "Point an alias to a version, show where it points, or remove it",
        "pointing:alias",
        argument("alias", metavar="MODEL@ALIAS"),
        argument("version", nargs="?", metavar="VERSION", help="left out: only say where it points"),
        argument("--remove", action="store_true", help="remove the alias; the version stays"),
        examples=("alias finbert@champion v2", "alias finbert@champion", "alias finbert@champion --remove"),
    ),
    _command(
        "default",
        "Set the version that the bare name of a model means, or show it",
        "pointing:default",
        argument("model", metavar="MODEL"),
        argument("version", nargs="?", metavar="VERSION", help="left out: only show it"),
        argument("--unset", action="store_true", help="back to the oldest version"),
        examples=("default finbert v2", "default finbert"),
    ),
    _command(
        "tag",
        "Set, remove or show tags of a version, or of a model",
        "annotating:tag",
        _ABOUT,
        argument("tags", nargs="*", type=tag_pair, metavar="KEY=VALUE"),
        argument("--remove", action="append", default=[], metavar="KEY", help="remove a tag; may be given again"),
        examples=("tag finbert/v1 team=risk stage=live", "tag finbert owner=ana", "tag finbert/v1 --remove stage"),
    ),
    _command(
        "metric",
        "Set, remove or show metrics of a version, or of a model",
        "annotating:metric",
        _ABOUT,
        argument("metrics", nargs="*", type=json_pair, metavar="NAME=JSON"),
        argument("--remove", action="append", default=[], metavar="NAME", help="remove a metric; may be given again"),
        description="Set, remove or show metrics: of a version what was measured of it, of a model what holds for it, "
        "such as what a\nrelease must reach. Gates and searches ask for those of versions.",
        examples=(
            "metric finbert/v1 accuracy=0.91",
            "metric finbert@DEFAULT 'report={\"f1\": 0.8}'",
            "metric finbert least_accuracy=0.9",
        ),
    ),
    _command(
        "comment",
        "Set or show the comment of a version, or of a model",
        "annotating:comment",
        _ABOUT,
        argument("text", nargs="?", metavar="TEXT", help="left out: only show it; '' removes it"),
    ),
)

_MOVE = (
    _command(
        "export",
        "Write a version into a new folder that from_pretrained reads",
        "moving:export",
        _REFERENCE,
        argument("folder", metavar="FOLDER", help="of this machine, absent or empty; a path or file:///folder"),
        argument("--verify", action="store_true", help="read this host's copy again and compare every digest"),
        description="Write a version into a new folder: a plain Hugging Face folder, and a manifest with its name, "
        "signatures, tags,\nmetrics and lineage, by which `import` takes it back here or elsewhere.",
        examples=("export finbert@champion ./finbert",),
    ),
    _command(
        "import",
        "Log an exported folder again, here or in another registry",
        "moving:import_",
        argument("folder", metavar="FOLDER", help="or a URL of one"),
        argument("--as", dest="target", metavar="MODEL/VERSION", help="default: as it was exported"),
        _CONSENT,
        description="Log an exported folder. Every digest is compared: a folder that was changed is refused; log it "
        "with `log`\nas a version of its own.",
        examples=("import ./finbert", "import ./finbert --as finbert-prod/2026-01"),
    ),
    _command(
        "copy",
        "Copy a version to another name, or to another registry",
        "moving:copy",
        _REFERENCE,
        argument("target", nargs="?", metavar="MODEL/VERSION", help="default: the same name"),
        argument("--to", metavar="URL", help="the registry to copy into; default: the same one"),
        argument("--to-profile", metavar="NAME", help="profile of ~/.aws whose keys reach it; default: the same keys"),
        argument("--to-endpoint-url", metavar="URL", help="its server; default: the same one, not the profile's"),
        argument("--no-annotations", action="store_true", help="leave tags, metrics and comment behind"),
        argument("--no-verify", action="store_true", help="let a server copy files that were not read and compared"),
        _CONSENT,
        description="Copy a version. Its content digest stays, and its tags, metrics and comment go along; aliases do "
        "not.\nWithin a registry no byte moves; between two on one server, files are read here and compared with their "
        "digests, and\nthe server copies. What comes from another registry passes the same rules as a folder that is "
        "logged.",
        examples=(
            "copy finbert/v7 finbert-prod/2026-01",
            "copy finbert@champion --to s3://production/hfreg --to-profile production",
        ),
    ),
)

_USE = (
    _command(
        "run",
        "Run a table through a version, here, and write Parquet",
        "scoring:run",
        _REFERENCE,
        argument("input", metavar="INPUT", help="Parquet, CSV or JSON lines: a file, folder or glob; path or URL"),
        argument("output", metavar="OUTPUT", help="a folder; path or URL"),
        argument(
            "--column",
            action="append",
            default=[],
            type=tag_pair,
            metavar="INPUT=COLUMN",
            help="the model's column → the table's, where they differ; may be given again",
        ),
        _PARAMS,
        argument("--function", default="__call__", metavar="NAME", help="which function of the version"),
        argument("--output-format", default="json", choices=("json", "struct"), help="of lists of objects"),
        argument("--max-row-errors", type=row_limit, metavar="N", help="100, or a share such as 0.01; default: any"),
        argument("--if-output-exists", default="error", choices=("error", "replace", "append")),
        argument(
            "--precision", choices=PRECISION_NAMES, help="of the network; default: the version's own. Changes scores"
        ),
        argument(
            "--token-budget", type=int, metavar="N", help="tokens of one forward pass; default: what suits the machine"
        ),
        argument("--threads", type=int, metavar="N", help="of the processor; default: the container's cores"),
        _CONSENT,
        argument("--rerun", action="store_true", help="do it over, though it was done before"),
        description="Run a table through a version, in this process. The same command again goes on where it was "
        "interrupted,\nand returns what is there if it was finished. Rows that cannot be run are set aside with their "
        "reason,\nand the others have their results.",
        examples=("run finbert@champion texts.csv scores --column text=body",),
    ),
)

_CARE = (
    _command(
        "delete",
        "Delete a version, or a model with all its versions",
        "cleaning:delete",
        argument("reference", metavar="MODEL/VERSION"),
        argument("--all-versions", action="store_true", help="with a bare MODEL: all its versions"),
        YES,
        description="Delete a version. The one that is the default or has an alias is refused. The name is not used "
        "again,\nso that what refers to it never means something else. The files stay until `gc` frees what no other "
        "version holds.",
        examples=("delete finbert/v1", "delete finbert/v1 --yes", "delete finbert --all-versions --yes"),
    ),
    _command(
        "gc",
        "Free the files that no version needs any more",
        "cleaning:gc",
        YES,
        description="Free the files of deleted versions and of uploads that were never finished. Safe while others "
        "log, run and collect;\nif it is killed, the next collection goes on. Run it once a day, or after deleting.",
        examples=("gc", "gc --yes"),
    ),
    _command(
        "verify",
        "Read every stored byte of versions and compare digests",
        "checking:verify",
        argument("references", nargs="*", metavar="REFERENCE", help="versions or models; default: all there is"),
        description="Read every blob of the versions, once each, through this machine, keeping nothing, and compare "
        "digests.\nExit status 1 if one is missing or damaged; it is named with the versions that need it.",
        examples=("verify finbert/v1", "verify"),
    ),
    _command(
        "probe",
        "Try whether the store keeps conditional writes",
        "checking:probe",
        description="Try, with a small object that is removed again, whether the store keeps conditional writes: 16 "
        "writers of one key,\na stale and a fresh ETag. A store that only says yes would let two loggers believe that "
        "both published a version.",
    ),
)

_OUTPUT = argument("output", metavar="OUTPUT", help="the output folder of batch runs; path or URL")
_RUNS = Group(
    "runs",
    "Batch runs below an output folder: list, show, clean",
    (
        Command(
            "list",
            "List the batch runs that wrote to an output folder",
            "runs:list_",
            (_OUTPUT, AS_JSON),
            description="List the batch runs that wrote to an output folder, the one that changed last first: how far "
            "each is, with which\nversion, how many rows were set aside, and how many workers of a pool are at it. A "
            "run in a task's own process leaves\nno trace between two shards: it is 'unfinished', and its last change "
            "is all that tells.\nRows of a query or of the call that are staged for unfinished runs are listed below "
            "them.",
            examples=("runs list s3://lake/scores/2026-01-01", "runs list ./scores --json"),
        ),
        Command(
            "show",
            "Show one batch run, and each of its shards under way",
            "runs:show",
            (_OUTPUT, argument("run_id", metavar="RUN", help="its id, or the beginning of it"), AS_JSON),
            examples=("runs show s3://lake/scores 6d0629",),
        ),
        Command(
            "clean",
            "Remove what old batch runs left beside their parts",
            "runs:clean_",
            (
                _OUTPUT,
                argument(
                    "--older-than",
                    required=True,
                    type=age,
                    metavar="AGE",
                    help="since anything of a run changed last, such as 30d or 12h",
                ),
                argument("--unfinished", action="store_true", help="also runs that nobody works on, after a day"),
                YES,
                AS_JSON,
            ),
            description="Remove the folders of old batch runs below _hfreg/: plans, reports, quarantined rows. Parts "
            "stay, and a run that\nsomebody works on is never touched. A task whose report is gone computes its result "
            "anew when it runs again.\nRows that were staged for runs which do not go on are removed too.",
            examples=(
                "runs clean s3://lake/scores --older-than 30d",
                "runs clean s3://lake/scores --older-than 30d --yes",
            ),
        ),
    ),
)

MENU: tuple[Command | Group, ...] = (*_LOOK, *_CHANGE, *_MOVE, *_USE, *_CARE, _RUNS)
"""In the order in which help lists them."""
