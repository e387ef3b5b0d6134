"""What gunicorn serves."""

from lab_backend import settings, web

backend = web.Backend(settings.from_environment())
app = web.create_app(backend)
