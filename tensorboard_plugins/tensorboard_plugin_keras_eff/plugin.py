"""Routes of the Efficiency tab: what each run used against its plan."""

import pathlib

from tensorboard import context as request_context
from tensorboard.backend import experiment_id
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from tensorboard_plugin_keras_eff import names
from tensorboard_plugin_keras_eff import table

MAX_RUNS = 200

# The closed list of files served. `mimetypes` would ask the Windows registry,
# where `.js` may be text/plain, which browsers refuse to run.
STATIC = {
    "index.js": "text/javascript",
    "table.js": "text/javascript",
    "format.js": "text/javascript",
    "style.css": "text/css",
}


class EfficiencyPlugin(base_plugin.TBPlugin):
    """Serves the table "Saved against plan".

    Args:
        context: The `base_plugin.TBContext` of the TensorBoard process.
    """

    plugin_name = names.PLUGIN

    def __init__(self, context):
        self._data = context.data_provider

    def get_plugin_apps(self):
        """Returns the WSGI application of each route."""
        files = {f"/static/{name}": _serve_file(name) for name in STATIC}
        return {
            "/overview": self.serve_overview,
            "/table.csv": self.serve_csv,
            **files,
        }

    def is_active(self):
        """Returns False: TensorBoard finds the manifests by itself."""
        return False

    def frontend_metadata(self):
        """Returns the name of the tab and its entry module."""
        return base_plugin.FrontendMetadata(
            es_module_path="/static/index.js", tab_name="Efficiency"
        )

    @wrappers.Request.application
    def serve_overview(self, request):
        """Serves columns and rows of the table as JSON."""
        overview = self._overview(request.environ)
        return http_util.Respond(request, overview, "application/json")

    @wrappers.Request.application
    def serve_csv(self, request):
        """Serves the table as CSV."""
        text = table.as_csv(self._overview(request.environ))
        return http_util.Respond(request, text, "text/csv")

    def _overview(self, environ):
        # Not `tensorboard.plugin_util`, which wraps these two: its import
        # raises a DeprecationWarning.
        scope = {
            "ctx": request_context.from_environ(environ),
            "experiment_id": environ.get(experiment_id.WSGI_ENVIRON_KEY, ""),
        }
        scalars = self._read_scalars(scope)
        manifests = self._read_manifests(scope)
        runs = sorted({*scalars, *manifests})
        rows = [
            table.row(run, scalars.get(run, {}), manifests.get(run))
            for run in runs[:MAX_RUNS]
        ]
        return {
            "schema": names.SCHEMA,
            "columns": table.columns(rows),
            "runs": rows,
            "truncated": len(runs) > MAX_RUNS,
        }

    def _read_scalars(self, scope):
        scope = {**scope, "plugin_name": "scalars"}
        listing = self._data.list_scalars(**scope)
        tags = {tag for run in listing.values() for tag in run}
        headline = provider.RunTagFilter(tags=filter(names.split_tag, tags))
        return self._data.read_last_scalars(**scope, run_tag_filter=headline)

    def _read_manifests(self, scope):
        runs = self._data.read_tensors(
            **scope,
            plugin_name=names.PLUGIN,
            run_tag_filter=provider.RunTagFilter(tags=[names.MANIFEST]),
            downsample=1,
        )
        return {
            run: names.parse_manifest(point.numpy)
            for run, tags in runs.items()
            for point in tags[names.MANIFEST]
        }


def _serve_file(name):
    body = (pathlib.Path(__file__).parent / "static" / name).read_bytes()

    @wrappers.Request.application
    def serve(request):
        return http_util.Respond(request, body, STATIC[name])

    return serve
