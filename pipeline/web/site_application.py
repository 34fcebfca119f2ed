"""The routes of the role ``api``: the API, the dashboard, the guide and the documentation."""

from __future__ import annotations

from aiohttp import web

from pipeline.ops.health import Health
from pipeline.web.api.route_table import API_ROUTES
from pipeline.web.auth import authorize
from pipeline.web.dashboard.application import dashboard
from pipeline.web.dashboard.page import PREFIX as DASHBOARD
from pipeline.web.declared_parameters import check_parameters
from pipeline.web.docs_site import docs_routes
from pipeline.web.guide import guide_routes
from pipeline.web.health_routes import refuse_until_started, say_what_is_waited_for
from pipeline.web.jwks import jwks_routes
from pipeline.web.routes import PREFIX, PUBLISHED, SLASH
from pipeline.web.services import Api


def add_site(app: web.Application, api: Api, health: Health) -> None:
    """Add all of them to the application of the process."""

    def on_use(key_id: str) -> None:
        api.ring.note_use(api.producer, key_id, api.clock())

    # The API is a separate application, so that no path reaches its handlers without its middleware.
    for base in ("", PUBLISHED):
        rules = {
            (method, base + path + end): route for route in API_ROUTES for method, path in (route.key,) for end in ("", SLASH)
        }
        guarded = web.Application(
            middlewares=[
                say_what_is_waited_for(health),
                authorize(api.keys, rules, api.login_throttle, api.proxies, on_use),
                refuse_until_started(health),
                check_parameters(rules),
            ]
        )
        guarded.add_routes([one for route in API_ROUTES for one in route.definitions(api)])
        app.add_subapp(f"{base}{PREFIX}/", guarded)
    app.on_shutdown.append(lambda _: api.runs.stop())
    app.router.add_get("/", _to_dashboard)
    app.add_routes(jwks_routes(api))
    app.add_routes(docs_routes())
    app.add_routes(guide_routes(lambda: api.events.types))  # before the dashboard, which requires a login
    app.add_subapp(f"{DASHBOARD}/", dashboard(api, health))


async def _to_dashboard(_: web.Request) -> web.Response:
    return web.Response(status=303, headers={"Location": DASHBOARD})
