"""The server of the page. It listens on this machine only by default, and asks for a token."""

import hmac
import secrets
from collections.abc import Callable

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.auth_provider import AuthProvider
from bokeh.server.server import Server
from tornado.web import RequestHandler

from eal_icnet_jax.system.errors import UserError, os_error_cause

COOKIE = "eal_icnet_token"
"""Name of the cookie that holds the token after the first request."""

LOCAL = "127.0.0.1"
"""Address of this machine for itself."""


class _Denied(RequestHandler):
    """Answers requests without the token."""

    def get(self):
        self.set_status(403)
        self.finish("open the address that eal-icnet review has printed, with its token")


class TokenAuthentication(AuthProvider):
    """Lets in who has the token, in the address at first and in a cookie afterwards.

    Args:
      token: the secret.
    """

    def __init__(self, token: str):
        self._token = token
        super().__init__()

    @property
    def get_user(self) -> Callable[[RequestHandler], str | None]:
        def user(handler: RequestHandler) -> str | None:
            given = handler.get_argument("token", "") or handler.get_cookie(COOKIE, "") or ""
            if not hmac.compare_digest(given.encode(), self._token.encode()):
                return None
            if handler.get_cookie(COOKIE) != given and not handler.request.headers.get("Upgrade"):
                handler.set_cookie(COOKIE, given, httponly=True, samesite="Strict")
            return "reviewer"

        return user

    @property
    def get_user_async(self):
        return None

    @property
    def login_url(self) -> str:
        return "/denied"

    @property
    def get_login_url(self):
        return None

    @property
    def login_handler(self) -> type[RequestHandler]:
        return _Denied

    @property
    def logout_url(self):
        return None

    @property
    def logout_handler(self):
        return None


def start_server(
    make_page: Callable[[Document], object], address: str = LOCAL, port: int = 0
) -> tuple[Server, str]:
    """Start the server, and return it with the address of the page.

    Args:
      make_page: fills the document of each window.
      address: that it listens on.
      port: likewise; 0 for one that is free.

    Raises:
      UserError: the port is in use, or the address is not one of this machine.
    """
    token = secrets.token_urlsafe(24)
    try:
        server = Server(
            {"/": Application(FunctionHandler(make_page))},
            address=address,
            port=port,
            auth_provider=TokenAuthentication(token),
            allow_websocket_origin=["*"] if address != LOCAL else None,
            websocket_max_message_size=64 << 20,
        )
    except OSError as error:
        raise UserError(
            f"the page cannot be served on {address}, port {port} ({os_error_cause(error)}): name "
            "another --port or --address"
        ) from error
    server.start()
    host = "localhost" if address == LOCAL else address
    return server, f"http://{host}:{server.port}/?token={token}"
