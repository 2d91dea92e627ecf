# The image of a node and of the terminal client: one binary, nothing else of ours.
# No syntax line: it would make the builder ask a registry even when all it needs is here.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# Dependencies first, in a layer that only a change of the manifest, the lock file or the wire format invalidates:
# the crate is built with empty sources (bench and test targets that the manifest declares must exist as files).
COPY Cargo.toml Cargo.lock build.rs ./
COPY proto proto
RUN --mount=type=cache,id=clique-cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=clique-cargo-git,target=/usr/local/cargo/git \
    mkdir -p src \
    && echo 'fn main() {}' >src/main.rs \
    && : >src/lib.rs \
    && sed -n '/^\[\[bench\]\]/,/^$/s/^name *= *"\(.*\)"/benches\/\1.rs/p; /^\[\[test\]\]/,/^$/s/^name *= *"\(.*\)"/tests\/\1.rs/p' Cargo.toml \
        | while read -r file; do mkdir -p "${file%/*}" && echo 'fn main() {}' >"$file"; done \
    && cargo build --release --locked --bin clique

# Then the sources. They may be older than the empty ones just built; cargo compares times, so they are made newer.
COPY src src
RUN --mount=type=cache,id=clique-cargo-registry,target=/usr/local/cargo/registry \
    --mount=type=cache,id=clique-cargo-git,target=/usr/local/cargo/git \
    find src -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --bin clique \
    && install -D -m 755 target/release/clique /out/clique \
    && mkdir -p /out/data

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clique" \
      org.opencontainers.image.description="Self-hosted chat without a centre: equal nodes, one history, nothing lost when a link is cut" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /out/clique /clique
# A new named volume takes its owner from this directory, so the node can write to it without being root.
COPY --from=build --chown=10001:10001 /out/data /data
VOLUME /data
ENV CLIQUE_DATA=/data
USER 10001:10001

# The process stops in order on SIGTERM, which is also Docker's default; written down because draining depends on it.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/clique"]
CMD ["node"]
