FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/lading
COPY requirements.txt .
RUN /opt/lading/bin/pip install --require-hashes -r requirements.txt

FROM python:3.11-slim
ENV PATH=/opt/lading/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMS_HOME=/var/lib/lading
RUN useradd --system --home-dir /var/lib/lading --create-home lading
COPY --from=build /opt/lading /opt/lading
WORKDIR /app
COPY . .
# Hashed file names are made once, at build time; the keys below exist for this one command only.
RUN DATABASE_URL=postgres://build@127.0.0.1:1/build OMS_ALLOWED_HOSTS=build OMS_HOME=/tmp/build \
    OMS_SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(60))')" \
    OMS_FIELD_KEYS="k1:$(python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())')" \
    OMS_STATIC_ROOT=/app/staticfiles \
    python manage.py collectstatic --noinput --verbosity 0 --ignore '*.map' --ignore 'redoc*'
ENV OMS_STATIC_ROOT=/app/staticfiles
USER lading
VOLUME /var/lib/lading
EXPOSE 8000
CMD ["python", "manage.py", "serve", "--host", "0.0.0.0", "--workers", "2"]
