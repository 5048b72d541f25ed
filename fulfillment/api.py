from rest_framework.routers import BaseRouter


def register(router: BaseRouter) -> None:
    """Name this app's resources under /api/v1/."""
