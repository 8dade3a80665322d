# The relay. Runs with a read-only root; it must be told the one address under which clients reach it:
#   docker build --tag liaison-relay .
#   docker run --read-only --tmpfs /tmp --stop-timeout 30 -v relay:/data -p 127.0.0.1:8440:8440 \
#     -e RELAY_PUBLIC_URL=https://relay.example -e RELAY_PROXIES=172.17.0.1 liaison-relay
# TLS ends at a proxy in front; RELAY_PROXIES says where it comes from: here, over Docker's bridge. A relay has 20 seconds
# to drain, and Docker alone would kill it after 10. PostgreSQL: RELAY_DATABASE, and `relay migrate` before the first start.
# What it is made of, Debian's packages aside (CycloneDX): docker run --rm liaison-relay cat /opt/relay/sbom.json

FROM python:3.14-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
COPY clients clients
COPY migrations migrations
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel . \
 && python -m venv /opt/relay \
 && /opt/relay/bin/pip install --no-cache-dir "$(ls /wheel/*.whl)[server,postgres,s3]" \
 && pip install --no-cache-dir cyclonedx-bom \
 && cyclonedx-py environment --spec-version 1.6 --output-file /opt/relay/sbom.json /opt/relay

FROM python:3.14-slim
RUN useradd --system --uid 8440 --no-create-home --shell /usr/sbin/nologin relay \
 && install --directory --owner relay --group relay --mode 0700 /data
COPY --from=build /opt/relay /opt/relay
ENV PATH=/opt/relay/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER relay
VOLUME /data
EXPOSE 8440
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD \
    ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8440/health', timeout=4)"]
CMD ["relay", "serve", "--host", "0.0.0.0", "--data", "/data"]
