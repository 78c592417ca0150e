//! Documents in the style of Istio's samples: all of them are read and keep every rule.
#![allow(clippy::unwrap_used)]

use serde_json::Value;

use crate::{Kind, Metadata, Object, Options, check, documents};

const SAMPLES: &str = r#"
kind: VirtualService
spec: {hosts: [ratings], http: [{match: [{headers: {end-user: {exact: jason}}}], fault: {delay: {percentage: {value: 100.0}, fixedDelay: 7s}}, route: [{destination: {host: ratings, subset: v1}}]}, {fault: {abort: {httpStatus: 500, percentage: {value: 0.1}}}, route: [{destination: {host: ratings, subset: v1}}]}]}
---
kind: VirtualService
spec: {hosts: [httpbin], http: [{route: [{destination: {host: httpbin, subset: v1}, weight: 100}], mirror: {host: httpbin, subset: v2}, mirrorPercentage: {value: 100.0}}]}
---
kind: VirtualService
spec:
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
  - match: [{uri: {exact: /productpage}}, {uri: {prefix: /static}}, {uri: {regex: "/api/v[0-9]+/.*"}}]
    route: [{destination: {host: productpage, port: {number: 9080}}}]
    timeout: 10s
    retries: {attempts: 3, perTryTimeout: 2s, retryOn: "gateway-error,connect-failure,refused-stream,503"}
    corsPolicy: {allowOrigins: [{exact: "https://example.com"}], allowMethods: [GET, POST], allowCredentials: false, allowHeaders: [X-Foo-Bar], maxAge: 24h}
    headers: {request: {set: {x-a: b}, remove: [x-c]}, response: {add: {x-d: e}}}
  - match: [{withoutHeaders: {x-v: {}}, queryParams: {q: {exact: "1"}}, authority: {exact: a.example}, method: {exact: GET}, scheme: {exact: http}, sourceLabels: {app: a}}]
    redirect: {uri: /v1/x, authority: b.example, redirectCode: 308}
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uriRegexRewrite: {match: "/old/(.*)", rewrite: '/new/\1'}}
    route: [{destination: {host: a}, weight: 25}, {destination: {host: b.other.svc.cluster.local}, weight: 75}]
  - directResponse: {status: 503, body: {string: "down"}}
---
kind: VirtualService
spec: {hosts: [tcp-echo], tcp: [{match: [{port: 31400}], route: [{destination: {host: tcp-echo, port: {number: 9000}, subset: v1}, weight: 80}, {destination: {host: tcp-echo, port: {number: 9000}, subset: v2}, weight: 20}]}]}
---
kind: VirtualService
spec: {hosts: ["*.wikipedia.org"], gateways: [mesh, istio-egressgateway], tls: [{match: [{gateways: [mesh], port: 443, sniHosts: ["*.wikipedia.org"]}], route: [{destination: {host: egress.istio-system.svc.cluster.local, subset: wikipedia, port: {number: 443}}, weight: 100}]}]}
---
kind: DestinationRule
spec:
  host: reviews.prod.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST, warmupDurationSecs: 60s}
    connectionPool: {tcp: {maxConnections: 1, connectTimeout: 30ms, tcpKeepalive: {time: 7200s, interval: 75s}}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 1000, maxRequestsPerConnection: 1}}
    outlierDetection: {consecutive5xxErrors: 1, consecutiveGatewayErrors: 5, interval: 1s, baseEjectionTime: 3m, maxEjectionPercent: 100}
    tls: {mode: DISABLE}
    portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE, sni: edition.cnn.com}}]
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}}}
---
kind: DestinationRule
spec:
  host: helloworld
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting: {enabled: true, distribute: [{from: region1/zone1/*, to: {region1/zone1/*: 70, region2/*: 30}}]}
---
kind: DestinationRule
spec: {host: helloworld, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {enabled: true, failover: [{from: region1, to: region2}]}}, outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 1m}}}
---
kind: Gateway
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
kind: Gateway
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example], tls: {httpsRedirect: true}}, {port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, serverCertificate: /etc/certs/c.pem, privateKey: /etc/certs/k.pem}}, {port: {number: 444, name: tls, protocol: TLS}, hosts: [b.example], tls: {mode: PASSTHROUGH}}]}
---
kind: ServiceEntry
spec: {hosts: [edition.cnn.com], ports: [{number: 80, name: http-port, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS, targetPort: 8443}], resolution: DNS, location: MESH_EXTERNAL, exportTo: ["."]}
---
kind: ServiceEntry
spec: {hosts: ["*.wikipedia.org"], ports: [{number: 443, name: https, protocol: HTTPS}]}
---
kind: ServiceEntry
spec: {hosts: [mymongodb.somedomain], addresses: [192.192.192.192/24], ports: [{number: 27018, name: mongodb, protocol: MONGO}], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 2.2.2.2}, {address: 3.3.3.3, ports: {mongodb: 27019}, locality: us-east/a/b, weight: 2, labels: {app: m}}]}
---
kind: Sidecar
spec: {workloadSelector: {labels: {app: productpage}}, egress: [{hosts: ["./*", "istio-system/*"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
---
kind: Sidecar
spec: {ingress: [{port: {number: 9080, protocol: HTTP, name: somename}, defaultEndpoint: "unix:///var/run/someuds.sock"}], egress: [{port: {number: 9080, protocol: HTTP, name: egresshttp}, hosts: ["prod-us1/*"]}, {hosts: ["istio-system/*"]}]}
---
kind: WorkloadEntry
spec: {serviceAccount: details-legacy, address: 2.2.2.2, labels: {app: details-legacy, instance-id: vm1}}
---
kind: WorkloadGroup
spec: {metadata: {labels: {app.kubernetes.io/name: reviews}, annotations: {a: b}}, template: {ports: {grpc: 3550, http: 8080}, serviceAccount: default}, probe: {initialDelaySeconds: 5, timeoutSeconds: 3, periodSeconds: 4, successThreshold: 3, failureThreshold: 3, httpGet: {path: /foo/bar, host: 127.0.0.1, port: 3100, scheme: HTTPS, httpHeaders: [{name: Lit-Header, value: Im-The-Best}]}}}
---
kind: MeshConfig
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, connectTimeout: 5s, defaultHttpRetryPolicy: {attempts: 2}, accessLogFile: /dev/stdout, defaultServiceExportTo: ["."]}
---
kind: RuntimeLayer
spec: {workloadSelector: {labels: {app: a}}, layer: {a.b: true, c: {d: 1}}}
"#;

/// The kind and the spec of every sample.
pub(crate) fn all() -> Vec<(Kind, Value)> {
    let samples = documents(SAMPLES).unwrap().into_iter();
    let kind = |name: &Value| {
        let of = |group| Kind::from_gvk(group, "v1", name.as_str().unwrap());
        of("networking.istio.io").or(of("weft.mesh")).unwrap()
    };
    samples
        .map(|sample| (kind(&sample["kind"]), sample["spec"].clone()))
        .collect()
}

#[test]
fn documents_like_istios_are_accepted() {
    let samples = all();
    assert_eq!(samples.len(), 19);
    for (i, (kind, spec)) in samples.into_iter().enumerate() {
        let metadata = Metadata {
            name: "sample".into(),
            namespace: "default".into(),
            ..Metadata::default()
        };
        let object = Object {
            kind,
            metadata,
            spec: spec.clone(),
        };
        let found = check(object, Options::default()).map(|checked| checked.object.spec);
        assert_eq!(found, Ok(spec), "sample {i}, {kind}");
    }
}
