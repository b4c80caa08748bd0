# syntax=docker/dockerfile:1
#
#   docker build -t tenant-gateway:0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# tools/image-steps takes the same steps where no container engine runs, and checks their result.

# The toolchain of rust-toolchain.toml; tools/image-steps refuses another.
ARG RUST_VERSION=1.95.0

# bookworm: the runtime image below is Debian 12 too, so the C library is the one that was linked.
FROM rust:${RUST_VERSION}-bookworm AS build
WORKDIR /build

# .dockerignore names what this is.
COPY . .

# Without the default features: the simulated SuperOffice and the `dev` command are not in the image.
# --locked: exactly the versions of Cargo.lock, which were tested. The caches make a second build short; they are no
# part of the image, hence the copy out of target/ in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/build/target,sharing=locked \
    cargo build --release --locked --no-default-features --bin tenant-gateway \
    && mkdir -p /image/usr/local/bin /image/var/lib/tenant-gateway \
    && cp target/release/tenant-gateway /image/usr/local/bin/

# glibc, libgcc and the certificates of public authorities, which calls to SuperOffice need. No shell, no package
# manager: whoever gets in finds nothing to run.
FROM gcr.io/distroless/cc-debian12:nonroot

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tenant-gateway" \
      org.opencontainers.image.description="A credential gateway for SuperOffice CRM Online" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"

COPY --from=build /image/usr/local/bin/tenant-gateway /usr/local/bin/tenant-gateway
# Where an SQLite store belongs: the only folder that is written to, so that the root file system can be read-only.
COPY --from=build --chown=65532:65532 /image/var/lib/tenant-gateway /var/lib/tenant-gateway

# By number: `runAsNonRoot` of Kubernetes cannot judge a name.
USER 65532:65532
WORKDIR /var/lib/tenant-gateway

# gRPC, egress proxy, consent pages and webhooks, health and metrics.
EXPOSE 50051 8081 8080 9090

ENTRYPOINT ["/usr/local/bin/tenant-gateway"]
CMD ["serve", "--config", "/etc/tenant-gateway/gateway.toml"]
