"""The tour's stand-in for a user with a browser: follows links, keeps cookies, presses the one button."""

import html
import http.client
import http.cookies
import re
import urllib.parse

from authsome.errors import EndpointUnreachable

_MOST_PAGES = 12
_FORM = re.compile(r'<form method="post" action="([^"]+)">(.*?)</form>', re.DOTALL)
_ONWARD = re.compile(r'<meta http-equiv="refresh" content="\d+; url=([^"]+)">')
_INPUT = re.compile(r'name="([^"]+)" value="([^"]*)"')


def log_in(url: str, *, until: str) -> str:
    """Open the login's link and say yes to the provider; returns the last page, once its text holds `until`.

    Raises:
        EndpointUnreachable: it led somewhere else.
    """
    jars: dict[str, http.cookies.SimpleCookie] = {}
    method, form, pressed = "GET", "", False
    for _ in range(_MOST_PAGES):
        parts = urllib.parse.urlsplit(url)
        jar = jars.setdefault(parts.netloc, http.cookies.SimpleCookie())
        status, location, page = _fetch(method, parts, form, jar)
        method, form = "GET", ""
        if location:
            url = urllib.parse.urljoin(url, location)
        elif onward := _ONWARD.search(page):
            url = urllib.parse.urljoin(url, html.unescape(onward[1]))
        elif status == 200 and not pressed and (found := _FORM.search(page)):
            url, method, pressed = urllib.parse.urljoin(url, html.unescape(found[1])), "POST", True
            form = urllib.parse.urlencode([(name, html.unescape(value)) for name, value in _INPUT.findall(found[2])])
        elif until in page:
            return page
        else:
            break
    raise EndpointUnreachable(f"the login led to a page that was not expected (status {status})")


def _fetch(
    method: str, parts: urllib.parse.SplitResult, form: str, jar: http.cookies.SimpleCookie
) -> tuple[int, str | None, str]:
    """One request; every host of the tour is this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", parts.port, timeout=15)
    headers = {"Host": parts.netloc, "Cookie": "; ".join(f"{each.key}={each.coded_value}" for each in jar.values())}
    if method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, form or None, headers)
        response = connection.getresponse()
        page = response.read().decode("utf-8", "replace")
        for value in response.headers.get_all("set-cookie", []):
            jar.load(value)
        return response.status, response.headers.get("location"), page
    except OSError as error:
        raise EndpointUnreachable(f"{parts.netloc} cannot be reached: {error}") from error
    finally:
        connection.close()
