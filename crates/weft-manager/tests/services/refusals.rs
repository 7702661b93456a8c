//! Services, secrets, configs and networks that are refused, in Docker's words.

use weft_types::{Classified, ErrorKind};
use weft_wire::swarmkit::service_spec::Mode;
use weft_wire::swarmkit::*;

use super::common::*;
use super::{container, published, spec, start, with_networks};

async fn refusal(swarm: &Swarm, spec: ServiceSpec) -> (ErrorKind, String) {
    let error = swarm.control().create_service(spec).await.unwrap_err();
    (error.kind(), error.to_string())
}

fn invalid(text: &str) -> (ErrorKind, String) {
    (ErrorKind::InvalidParameter, format!("rpc error: code = InvalidArgument desc = {text}"))
}

fn task(spec: &mut ServiceSpec) -> &mut TaskSpec {
    spec.task.as_mut().unwrap()
}

/// A spec with one thing changed.
fn but(change: impl FnOnce(&mut ServiceSpec)) -> ServiceSpec {
    let mut changed = spec("s6", "alpine", 1);
    change(&mut changed);
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_services_are_refused_in_dockers_words() {
    let swarm = start().await;
    swarm.control().create_service(published(spec("s3", "alpine", 1), &[(8080, 80)])).await.unwrap();
    let s3 = swarm.control().service("s3").unwrap().id.clone();
    let name = |name: &str| refusal(&swarm, spec(name, "alpine", 1));
    let refused = |spec: ServiceSpec| refusal(&swarm, spec);
    assert_eq!(name("-x").await, invalid("name must be valid as a DNS name component"));
    assert_eq!(name(&"x".repeat(64)).await, invalid("name must be 63 characters or fewer"));
    let conflict = "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service s3 already exists";
    assert_eq!(name("s3").await, (ErrorKind::Conflict, conflict.to_owned()));
    assert_eq!(
        refused(published(spec("s6", "alpine", 1), &[(8080, 81)])).await,
        invalid(&format!("port '8080' is already in use by service 's3' ({s3}) as an ingress port"))
    );
    assert_eq!(
        refused(published(spec("s6", "alpine", 1), &[(8081, 81), (8081, 82)])).await,
        invalid("EndpointSpec: duplicate published ports provided")
    );
    assert_eq!(
        refused(published(spec("s6", "alpine", 1), &[(8081, 0)])).await,
        invalid("EndpointSpec: invalid target port: 0")
    );
    assert_eq!(
        refused(but(|spec| container(spec).hostname = "{{.Bogus}}".to_owned())).await,
        invalid(
            "expanding hostname failed: template: expansion:1:2: executing \"expansion\" at <.Bogus>: can't evaluate \
             field Bogus in type *template.Context"
        )
    );
    let mut dnsrr = published(spec("s5", "alpine", 1), &[(8099, 80)]);
    dnsrr.endpoint.as_mut().unwrap().mode = endpoint_spec::ResolutionMode::Dnsrr.into();
    let text = "EndpointSpec: port published with ingress mode can't be used with dnsrr mode";
    assert_eq!(refused(dnsrr).await, invalid(text));
    assert_eq!(
        refused(with_networks(spec("s6", "alpine", 1), &["ingress"])).await,
        invalid("Service cannot be explicitly attached to the ingress network \"ingress\"")
    );
    assert_eq!(
        refused(with_networks(spec("s6", "alpine", 1), &["nosuch"])).await,
        (ErrorKind::NotFound, "network nosuch not found".to_owned())
    );
    let limit = |limits: Resources| {
        but(|spec| {
            task(spec).resources = Some(ResourceRequirements { limits: Some(limits), ..Default::default() })
        })
    };
    assert_eq!(
        refused(limit(Resources { nano_cpus: 100_000, ..Default::default() })).await,
        invalid("invalid cpu value 0.0001: Must be at least 0.001")
    );
    assert_eq!(
        refused(limit(Resources { memory_bytes: 1 << 20, ..Default::default() })).await,
        invalid("invalid memory value 1048576: Must be at least 4MiB")
    );
    assert_eq!(
        refused(but(|spec| container(spec).image.clear())).await,
        invalid("ContainerSpec: image reference must be provided")
    );
    assert_eq!(
        refused(but(|spec| container(spec).image = "Bad/NAME".to_owned())).await,
        invalid("ContainerSpec: \"Bad/NAME\" is not a valid repository/tag")
    );
    let mount = Mount { target: "/a".to_owned(), ..Default::default() };
    assert_eq!(
        refused(but(|spec| container(spec).mounts = vec![mount.clone(), mount])).await,
        invalid("ContainerSpec: duplicate mount point: /a")
    );
    let placement = Placement { constraints: vec!["bogus".to_owned()], ..Default::default() };
    assert_eq!(
        refused(but(|spec| task(spec).placement = Some(placement))).await,
        (
            ErrorKind::System,
            "rpc error: code = Unknown desc = constraint expected one operator from ==, !=".to_owned()
        )
    );
    let job = ReplicatedJob { max_concurrent: 1, total_completions: 1 };
    assert_eq!(
        refused(but(|spec| spec.mode = Some(Mode::ReplicatedJob(job)))).await,
        invalid("Jobs may not have an update config")
    );
    let unknown = SecretReference {
        secret_id: "x".to_owned(),
        secret_name: "key".to_owned(),
        target: Some(secret_reference::Target::File(FileTarget {
            name: "f".to_owned(),
            ..Default::default()
        })),
    };
    assert_eq!(
        refused(but(|spec| container(spec).secrets.push(unknown))).await,
        invalid("secret not found: key")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_keeps_name_and_mode() {
    let swarm = start().await;
    let control = swarm.control();
    let service = control.create_service(spec("s1", "alpine", 1)).await.unwrap();
    let version = || control.service("s1").unwrap().meta.as_ref().unwrap().version.unwrap().index;
    let text = |error: weft_manager::ControlError| (error.kind(), error.to_string());
    let unimplemented =
        |text: &str| (ErrorKind::NotImplemented, format!("rpc error: code = Unimplemented desc = {text}"));
    let renamed = control.update_service(&service.id, version(), spec("s2", "alpine", 1), false).await;
    assert_eq!(text(renamed.unwrap_err()), unimplemented("renaming services is not supported"));
    let global = ServiceSpec { mode: Some(Mode::Global(GlobalService {})), ..spec("s1", "alpine", 1) };
    let changed = control.update_service(&service.id, version(), global, false).await;
    assert_eq!(text(changed.unwrap_err()), unimplemented("service mode change is not allowed"));
    let rolled = control.update_service(&service.id, version(), spec("s1", "alpine", 1), true).await;
    let previous = format!(
        "rpc error: code = FailedPrecondition desc = service {} does not have a previous spec",
        service.id
    );
    assert_eq!(text(rolled.unwrap_err()), (ErrorKind::InvalidParameter, previous));
    let gone = control.remove_service("nosuch").await.unwrap_err();
    assert_eq!(text(gone), (ErrorKind::NotFound, "service nosuch not found".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_a_service_uses_stays() {
    let swarm = start().await;
    let control = swarm.control();
    let net = swarm.overlay("net").await;
    let service = control.create_service(with_networks(spec("s1", "alpine", 0), &["net"])).await.unwrap();
    let refused = control.remove_network("net").await.unwrap_err().to_string();
    assert_eq!(
        refused,
        format!(
            "rpc error: code = FailedPrecondition desc = network {} is in use by service {}",
            net.id, service.id
        )
    );
    control.create_service(published(spec("s2", "alpine", 0), &[(0, 80)])).await.unwrap();
    assert!(control.remove_network("ingress").await.unwrap_err().to_string().contains("depends on it"));
    let local = control.remove_network("host").await.unwrap_err().to_string();
    assert!(local.ends_with("(host) is a swarm predefined network and cannot be removed"), "{local}");
    control.remove_service("s1").await.unwrap();
    control.remove_network("net").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_never_get_one_port() {
    let swarm = start().await;
    let create = |name: String| {
        let control = swarm.control();
        async move { control.create_service(published(spec(&name, "alpine", 0), &[(9000, 80)])).await.is_ok() }
    };
    let made = futures_util::future::join_all((0..8).map(|n| create(format!("s{n}")))).await;
    assert_eq!(made.into_iter().filter(|made| *made).count(), 1);
    // Without a number, each gets one of its own.
    let any = |name: &str| published(spec(name, "alpine", 0), &[(0, 80)]);
    let port = |service: &Service| service.endpoint.as_ref().unwrap().ports[0].published_port;
    let first = swarm.control().create_service(any("a")).await.unwrap();
    let second = swarm.control().create_service(any("b")).await.unwrap();
    assert_eq!((port(&first), port(&second)), (30_000, 30_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_secrets_and_configs_are_refused() {
    let swarm = start().await;
    let control = swarm.control();
    let secret = |name: &str, data: Vec<u8>| SecretSpec {
        annotations: Some(Annotations { name: name.to_owned(), ..Default::default() }),
        data,
        ..Default::default()
    };
    let text = |error: weft_manager::ControlError| (error.kind(), error.to_string());
    for data in [Vec::new(), vec![0; 500 * 1024]] {
        let refused = control.create_secret(secret("key", data)).await.unwrap_err();
        assert_eq!(text(refused), invalid("secret data must be larger than 0 and less than 512000 bytes"));
    }
    let refused = control.create_secret(secret("-x", vec![1])).await.unwrap_err();
    assert!(text(refused).1.contains("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed"));
    let made = control.create_secret(secret("key", vec![1])).await.unwrap();
    let refused = control.create_secret(secret("key", vec![1])).await.unwrap_err();
    let exists = "rpc error: code = AlreadyExists desc = secret key already exists".to_owned();
    assert_eq!(text(refused), (ErrorKind::Conflict, exists));
    let version = made.meta.as_ref().unwrap().version.unwrap().index;
    let refused = control.update_secret(&made.id, version, secret("key", vec![2])).await.unwrap_err();
    assert_eq!(text(refused), invalid("only updates to Labels are allowed"));
    let mut labelled = secret("key", Vec::new());
    labelled.annotations.as_mut().unwrap().labels.insert("a".to_owned(), "b".to_owned());
    let updated = control.update_secret(&made.id, version, labelled).await.unwrap();
    assert_eq!(updated.spec.as_ref().unwrap().data, [1]);
    let config = ConfigSpec {
        annotations: Some(Annotations { name: "big".to_owned(), ..Default::default() }),
        data: vec![0; 1000 * 1024],
        ..Default::default()
    };
    let refused = control.create_config(config).await.unwrap_err();
    assert_eq!(text(refused), invalid("config data must be larger than 0 and less than 1024000 bytes"));
    assert_eq!(control.remove_secret("nosuch").await.unwrap_err().to_string(), "secret nosuch not found");
}
