# One image for all processes: `mainstem up`, or `serve`, `worker`, `scheduler` and `sync-agent` of a deployment.
# Build: docker build --tag mainstem:0.1.0 .
ARG PYTHON=3.13

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=postgres,kubernetes,aws,gcp,azure
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY task_runners task_runners
COPY runner runner
COPY sync sync
COPY webhooks webhooks
RUN python -m venv /opt/mainstem \
 && /opt/mainstem/bin/python -m pip install --no-cache-dir --compile ".[${EXTRAS}]"

FROM python:${PYTHON}-slim-bookworm
# ssh reaches repositories at ssh:// addresses; ssh-keygen beside it, and gpg, verify signatures of commits. The interpreters of other languages are a matter of derived images.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates openssh-client gpg \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 mainstem \
 && useradd --uid 10001 --gid 10001 --home-dir /var/lib/mainstem --no-create-home --shell /usr/sbin/nologin mainstem \
 && install --directory --owner mainstem --group mainstem --mode 0755 \
      /var/lib/mainstem /var/lib/mainstem-work /srv/mainstem /srv/mainstem/files
COPY --from=build /opt/mainstem /opt/mainstem
# The program's own packages stay off the PATH of task bodies: these use the Python of the base image.
RUN ln -s /opt/mainstem/bin/mainstem /usr/local/bin/mainstem
ENV HOME=/var/lib/mainstem \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MAINSTEM_HOME=/var/lib/mainstem/home \
    MAINSTEM_WORK=/var/lib/mainstem-work/bodies \
    MAINSTEM_HOST=0.0.0.0 \
    MAINSTEM_HEALTH_PORT=8421 \
    MAINSTEM_INSECURE=true
# The root file system may be read-only: what is written lies here and in /tmp.
VOLUME ["/var/lib/mainstem", "/var/lib/mainstem-work"]
WORKDIR /var/lib/mainstem
USER 10001:10001
EXPOSE 8420 8421
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8421/health/live', timeout=4)"]
ENTRYPOINT ["mainstem"]
CMD ["up"]
