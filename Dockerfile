# Rafka: both binaries, static, in an otherwise empty image.
#   docker build -t rafka .
#   docker run -v rafka:/var/lib/rafka -e RAFKA_CLUSTER__JOIN_TOKEN=… -p 7300:7300 -p 7400:7400 rafka

FROM docker.io/library/rust:1.95-slim-bookworm AS builder
# zstd and the allocator of the standard library are all the C there is.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# An explicit target keeps the flags away from build scripts and macros, which cannot be static.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target" \
        --bin rafka --bin rafka-node \
    && mkdir -p /out/data \
    && cp "target/$target/release/rafka" "target/$target/release/rafka-node" /out/

FROM scratch
LABEL org.opencontainers.image.title="rafka" \
      org.opencontainers.image.description="A message broker as a decentralized mesh" \
      org.opencontainers.image.source="https://github.com/rafka-io/rafka" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=builder /out/rafka /out/rafka-node /
COPY --from=builder --chown=65532:65532 /out/data /var/lib/rafka
ENV RAFKA_NODE__DATA_DIR=/var/lib/rafka \
    RAFKA_MESH__LISTEN=0.0.0.0:7300
USER 65532:65532
VOLUME /var/lib/rafka
EXPOSE 9092 7300 7400 9644
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/rafka", "node", "status"]
ENTRYPOINT ["/rafka-node"]
