"""All pages that are made from the program itself; none of them is kept in the repository."""

from commands_page import command_pages
from errors_page import errors_page
from metrics_page import metrics_page
from settings_page import settings_page
from wire_pages import wire_pages


def reference_pages() -> dict[str, str]:
    """Return the Markdown of every generated page by its address in the site."""
    return {
        **command_pages(),
        **wire_pages(),
        **settings_page(),
        **errors_page(),
        **metrics_page(),
    }
