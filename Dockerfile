# syntax=docker/dockerfile:1
# The server and nothing else, as a user without rights. How to run it: README.md, "Docker".

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# Symbols stay for backtraces, line tables go.
ENV CARGO_PROFILE_RELEASE_STRIP=debuginfo

# The dependencies alone, in a layer that lasts until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src tests benches/compare benches/scale \
    && echo 'fn main() {}' | tee src/main.rs tests/main.rs \
        benches/respond.rs benches/instructions.rs benches/compare/main.rs benches/scale/main.rs > src/lib.rs \
    && cargo build --release --locked \
    && rm -rf src tests benches

COPY . .
# The placeholders are newer than the sources as copied; cargo goes by time.
RUN touch src/main.rs src/lib.rs \
    && cargo build --release --locked \
    && install -D -m 755 target/release/waymark /out/waymark

FROM debian:bookworm-slim
# Root certificates for `https` checks.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 65532 waymark \
    && useradd --system --uid 65532 --gid waymark --home-dir /var/lib/waymark --shell /usr/sbin/nologin waymark \
    && install -d -o waymark -g waymark /var/lib/waymark \
    && install -d /etc/waymark
COPY --from=build /out/waymark /usr/local/bin/waymark

# The numeric id, so that Kubernetes can tell that it is not root.
USER 65532:65532
# config/waymark.toml and the files it names are looked for here: mount them.
WORKDIR /etc/waymark
# [server] state-dir: lock and control socket.
VOLUME /var/lib/waymark
EXPOSE 53/udp 53/tcp 853/tcp 853/udp 443/tcp 443/udp

# Asks the control socket, so it needs neither a shell nor the configuration. It fails when the control loop is stuck.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s --retries=3 \
    CMD ["/usr/local/bin/waymark", "status", "--control", "/var/lib/waymark/control"]

ENTRYPOINT ["/usr/local/bin/waymark"]
CMD ["run"]
