# Build: docker build -t hansa .
# Run:   docker run -v hansa:/data -p 127.0.0.1:8420:8420 -p 4001:4001 -p 8421:8421 hansa
FROM python:3.11-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libgmp-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.run.lock pyproject.toml README.md LICENSE ./
RUN python -m venv /opt/hansa && /opt/hansa/bin/pip install --no-cache-dir -r requirements.run.lock
COPY crdt crdt
COPY registry registry
COPY templates templates
COPY royalties royalties
COPY inference inference
COPY node node
RUN /opt/hansa/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim-bookworm
RUN apt-get update && apt-get install -y --no-install-recommends libgmp10 \
    && rm -rf /var/lib/apt/lists/* && useradd --system --uid 10001 --create-home hansa \
    && mkdir /data && chown hansa /data
COPY --from=build /opt/hansa /opt/hansa
ENV PATH=/opt/hansa/bin:$PATH HANSA_NODE__DATA_DIR=/data
USER hansa
VOLUME /data
# 8420 HTTP API (bind it to loopback, or set authentication first), 4001 libp2p, 8421 peer HTTPS
EXPOSE 8420 4001 8421
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8420/healthz', timeout=2)"]
ENTRYPOINT ["hansa"]
CMD ["run", "--log-format", "json"]
