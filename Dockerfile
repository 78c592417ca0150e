# Every image of Weft, a target each: config-api, xds-pusher, cert-issuer, meshctl, init, demo, sidecar.
#   docker build --target config-api -t weft/config-api .
# PROFILE=dev compiles faster. BuildKit and the classic builder both take this file.
ARG RUST_IMAGE=rust:1-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
ARG ENVOY_IMAGE=envoyproxy/envoy:v1.40.0

# The manifests with empty sources: a layer that changes only when a dependency does.
FROM ${RUST_IMAGE} AS manifests
COPY . /src
RUN /src/packaging/docker/manifests /src /manifests

FROM ${RUST_IMAGE} AS build
RUN command -v protoc >/dev/null || { \
      apt-get update \
      && apt-get install --yes --no-install-recommends protobuf-compiler libprotobuf-dev \
      && rm -rf /var/lib/apt/lists/*; }
ARG PROFILE=release
ENV PROTOC=protoc PROTOC_INCLUDE=/usr/include CARGO_TARGET_DIR=/target CARGO_INCREMENTAL=0 \
    CARGO_PROFILE_DEV_STRIP=symbols CARGO_PROFILE_RELEASE_STRIP=symbols
WORKDIR /src
COPY --from=manifests /manifests .
RUN cargo build --locked --workspace --bins --profile "$PROFILE"
COPY . .
# Sources are older than the empty ones that were just compiled; cargo goes by their times.
RUN find . -name '*.rs' -exec touch {} + \
    && cargo build --locked --workspace --bins --profile "$PROFILE" \
    && mkdir /out \
    && for name in config-api xds-pusher cert-issuer meshctl weft-demo-backend; do \
         cp /target/*/"$name" /out/ || exit 1; \
       done

# What every image is made of: nobody's files but their own, and a user without rights.
FROM ${BASE_IMAGE} AS base
COPY packaging/docker/healthcheck packaging/docker/advertised /usr/local/bin/
RUN install -d -o 65532 -g 65532 /var/lib/weft
USER 65532:65532

FROM base AS config-api
COPY --from=build /out/config-api /usr/local/bin/
EXPOSE 8080
HEALTHCHECK --interval=3s --timeout=5s --retries=5 --start-period=60s CMD ["healthcheck", "8080", "/readyz"]
ENTRYPOINT ["config-api"]

FROM base AS xds-pusher
COPY --from=build /out/xds-pusher /usr/local/bin/
ENV WEFT_XDS_LISTEN=0.0.0.0:18000
EXPOSE 18000 18001
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=60s CMD ["healthcheck", "18001", "/readyz"]
ENTRYPOINT ["xds-pusher"]

FROM base AS cert-issuer
COPY --from=build /out/cert-issuer /usr/local/bin/
ENV WEFT_ISSUER_LISTEN=0.0.0.0:18010
EXPOSE 18010 18011
HEALTHCHECK --interval=3s --timeout=5s --retries=5 --start-period=60s CMD ["healthcheck", "18011", "/readyz"]
ENTRYPOINT ["cert-issuer"]
CMD ["serve"]

FROM base AS meshctl
COPY --from=build /out/meshctl /usr/local/bin/
ENTRYPOINT ["meshctl"]

# Makes the keys and credentials of a control plane.
FROM base AS init
COPY --from=build /out/cert-issuer /out/meshctl /usr/local/bin/
COPY packaging/docker/init packaging/docker/shop /usr/local/bin/
COPY demo /demo
RUN ["/usr/local/bin/init", "prepare"]
ENTRYPOINT ["init"]

FROM base AS demo
COPY --from=build /out/weft-demo-backend /usr/local/bin/
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=30s CMD ["healthcheck", "9080", "/healthz"]
ENTRYPOINT ["weft-demo-backend"]

FROM ${ENVOY_IMAGE} AS envoy

# An Envoy with its bootstrap in a volume. Also the ingress gateway.
FROM base AS sidecar
COPY --from=envoy /usr/local/bin/envoy /usr/local/bin/
COPY packaging/docker/sidecar /usr/local/bin/
HEALTHCHECK --interval=10s --timeout=5s --retries=3 --start-period=60s CMD ["healthcheck", "9901", "/ready"]
ENTRYPOINT ["sidecar"]
