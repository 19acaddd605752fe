# A data owner's daemon. The GPU comes with BASE and the container runtime:
#   docker build -f deploy/docker/client.Dockerfile -t orthofed-client \
#     --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 .
ARG BASE=debian:bookworm-slim
FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008  # the base's own python3, of whichever version the base has
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/orthofed
WORKDIR /src
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
RUN /opt/orthofed/bin/pip install --no-cache-dir --constraint constraints.txt ".[client]"

FROM ${BASE}
LABEL org.opencontainers.image.title="orthofed-client" \
      org.opencontainers.image.licenses="Apache-2.0"
# hadolint ignore=DL3008  # as above
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10002 --home-dir /home/orthofed --shell /usr/sbin/nologin orthofed \
    && install --directory --owner=orthofed --mode=0700 /home/orthofed
COPY --from=build /opt/orthofed /opt/orthofed
ENV PATH=/opt/orthofed/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10002
# The home holds keys and training states; images are mounted read-only beside it.
VOLUME /home/orthofed
ENTRYPOINT ["orthofed", "client"]
CMD ["daemon", "--config", "/config/daemon.toml", "--home", "/home/orthofed/home"]
