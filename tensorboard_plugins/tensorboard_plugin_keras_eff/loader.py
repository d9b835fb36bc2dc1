"""The entry point that TensorBoard loads at every start."""

from tensorboard.plugins import base_plugin


class Loader(base_plugin.TBLoader):
    """Loads the Efficiency tab.

    TensorBoard logs a failure inside `load` and goes on without the tab, but
    exits when the import of an entry point fails. So this module imports as
    little as it can, and the plugin itself is imported late.
    """

    def load(self, context):
        """Returns the plugin."""
        from tensorboard_plugin_keras_eff import plugin

        return plugin.EfficiencyPlugin(context)
