# A coordinator: no torch, no GPU, one account that owns nothing but its volume.
#   docker build -f deploy/docker/coordinator.Dockerfile -t orthofed-coordinator .
ARG PYTHON=3.11-slim-bookworm
FROM python:${PYTHON} AS build
WORKDIR /src
RUN python -m venv /opt/orthofed
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY *.py py.typed ./
COPY admission admission/
COPY assets assets/
COPY client client/
COPY coordinator coordinator/
COPY core core/
COPY fleet fleet/
COPY proto proto/
COPY simulation simulation/
COPY web web/
RUN /opt/orthofed/bin/pip install --no-cache-dir --constraint constraints.txt ".[web]"

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="orthofed-coordinator" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin orthofed \
    && install --directory --owner=orthofed --mode=0700 /data
COPY --from=build /opt/orthofed /opt/orthofed
ENV PATH=/opt/orthofed/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001
VOLUME /data
EXPOSE 7443 9464
# Over the control socket: it answers only where the database does.
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s \
    CMD ["orthofed", "coordinator", "status", "/data/federation"]
ENTRYPOINT ["orthofed", "coordinator"]
CMD ["serve", "/data/federation", "--listen", "0.0.0.0:7443", "--metrics", "0.0.0.0:9464", "--log", "json"]
