# The service in a container, for those who don't use Nix.
#
#   dev      builds what is mounted at /src and serves it, again after each change (docker-compose.yml)
#   build    the release build
#   runtime  the image to run: the program and what it needs, and no shell
#
# No `# syntax=` line: it would be one more image to fetch. Docker 23 or newer knows all that is used here.

# The version is that of rust-toolchain.toml. Debian's release decides which glibc the program needs.
FROM rust:1.95-slim-bookworm AS rust
# The toolchain of the image is used as it is; else rustup would fetch the components that rust-toolchain.toml names.
RUN rustup toolchain link image "$(rustc --print sysroot)"
ENV RUSTUP_TOOLCHAIN=image
WORKDIR /src


FROM rust AS watchexec
# Built without optimisation: that takes half the time, and it mostly waits.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    CARGO_PROFILE_DEV_DEBUG=0 cargo install watchexec-cli --version 2.8.0 --locked --debug --no-default-features \
        --root /opt/watchexec --target-dir /tmp/target \
    && rm -rf /tmp/target


# It runs as root: the clone belongs to whoever made it, may be readable by nobody else, and is mounted read-only.
FROM rust AS dev
COPY --from=watchexec /opt/watchexec/bin/watchexec /usr/local/bin/
ENV CARGO_TARGET_DIR=/target \
    PATH=/target/debug:$PATH
EXPOSE 8000 9000
STOPSIGNAL SIGTERM
CMD ["docker/watch"]


FROM rust AS build
COPY . .
# Dependencies and the builds of them are kept between builds by these two caches, whatever of the sources changes.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked \
    && install -D target/release/claviger /image/bin/claviger
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The rest of the image: the libraries that the program is linked with, where the loader looks for them; the authorities for
# TLS; a name for the user; an empty /tmp. Since glibc 2.34 the look-up of names needs no library of its own.
RUN ldd /image/bin/claviger | grep -o '/[^ ]*' | xargs -I {} cp --dereference --parents {} /image \
    && install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    && printf 'root:x:0:0:root:/:/sbin/nologin\nclaviger:x:65532:65532:claviger:/var/lib/claviger:/sbin/nologin\n' > /image/etc/passwd \
    && printf 'root:x:0:\nclaviger:x:65532:\n' > /image/etc/group \
    && printf 'hosts: files dns\n' > /image/etc/nsswitch.conf \
    && install -d -m 1777 /image/tmp \
    && install -d -m 700 /state/claviger


FROM scratch AS runtime
LABEL org.opencontainers.image.title="claviger" \
      org.opencontainers.image.description="A self-hosted login service: username and password in, opaque token out." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build /image /
# A new volume at /var/lib/claviger takes over the owner of this folder, so that an SQLite file can be made in it.
COPY --from=build --chown=65532:65532 /state /var/lib
ENV PATH=/bin \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    CLAVIGER_SERVER__OPS_LISTEN=0.0.0.0:9000
# A number: Kubernetes can't tell from a name that it isn't root.
USER 65532:65532
WORKDIR /
EXPOSE 8000 9000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=12s --start-period=30s CMD ["claviger", "healthcheck"]
ENTRYPOINT ["claviger"]
CMD ["serve"]
