//! Output of tasks from nodes to who reads it.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use weft_wire::swarmkit::*;

use super::common::*;
use super::worker::Worker;
use super::{runs, spec, start};

fn options(follow: bool) -> LogSubscriptionOptions {
    LogSubscriptionOptions { follow, ..Default::default() }
}

fn line(task: &Task, text: &str) -> LogMessage {
    let context = LogContext {
        service_id: task.service_id.clone(),
        node_id: task.node_id.clone(),
        task_id: task.id.clone(),
    };
    LogMessage {
        context: Some(context),
        stream: LogStream::Stdout.into(),
        data: text.as_bytes().to_vec(),
        ..Default::default()
    }
}

fn publish(subscription: &str, messages: Vec<LogMessage>, close: bool) -> PublishLogsMessage {
    PublishLogsMessage { subscription_id: subscription.to_owned(), messages, close }
}

#[tokio::test(flavor = "multi_thread")]
async fn output_ends_when_all_nodes_have_sent_theirs() {
    let swarm = start().await;
    let control = swarm.control();
    let (one, two) = (Worker::weft(&swarm, "one").await, Worker::weft(&swarm, "two").await);
    let service = control.create_service(spec("web", "nginx", 2)).await.unwrap();
    runs(&swarm, &service.id, 2).await;
    let mut listening = Vec::new();
    for worker in [&one, &two] {
        listening.push(
            worker
                .log_broker()
                .listen_subscriptions(ListenSubscriptionsRequest {})
                .await
                .unwrap()
                .into_inner(),
        );
    }
    let selector = LogSelector { service_ids: vec![service.id.clone()], ..Default::default() };
    let mut logs = control.subscribe_logs(selector.clone(), options(false)).await.unwrap();
    for (worker, stream) in [&one, &two].into_iter().zip(&mut listening) {
        let asked = next(stream).await;
        assert_eq!(asked.selector.as_ref(), Some(&selector));
        let task = &worker.running()[0];
        let messages =
            vec![publish(&asked.id, vec![line(task, &worker.id)], false), publish(&asked.id, vec![], true)];
        worker.log_broker().publish_logs(futures_util::stream::iter(messages)).await.unwrap();
    }
    let mut from = Vec::new();
    while let Some(message) = timeout(DEADLINE, logs.next()).await.unwrap() {
        from.push(String::from_utf8(message.unwrap().data).unwrap());
    }
    from.sort();
    let mut expected = vec![one.id.clone(), two.id.clone()];
    expected.sort();
    assert_eq!(from, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_of_new_tasks_and_close() {
    let swarm = start().await;
    let control = swarm.control();
    let worker = Worker::weft(&swarm, "one").await;
    let mut listening =
        worker.log_broker().listen_subscriptions(ListenSubscriptionsRequest {}).await.unwrap().into_inner();
    let service = control.create_service(spec("web", "nginx", 0)).await.unwrap();
    let selector = LogSelector { service_ids: vec![service.id.clone()], ..Default::default() };
    let mut logs = control.subscribe_logs(selector, options(true)).await.unwrap();
    let version = control.service("web").unwrap().meta.as_ref().unwrap().version.unwrap().index;
    control.update_service(&service.id, version, spec("web", "nginx", 1), false).await.unwrap();
    let asked = next(&mut listening).await;
    eventually("the task is there", || !worker.running().is_empty()).await;
    let task = worker.running().remove(0);
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let mut client = worker.log_broker();
    let publishing = tokio::spawn(async move { client.publish_logs(ReceiverStream::new(messages)).await });
    sender.send(publish(&asked.id, vec![line(&task, "hello")], false)).await.unwrap();
    let message = timeout(DEADLINE, logs.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.data, b"hello");
    assert!(timeout(Duration::from_millis(50), logs.next()).await.is_err(), "it goes on");
    drop(logs);
    let closed = next(&mut listening).await;
    assert_eq!((closed.id, closed.close), (asked.id, true));
    drop(sender);
    drop(publishing.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_said() {
    let swarm = start().await;
    let control = swarm.control();
    let worker = Worker::weft(&swarm, "one").await;
    let service = control.create_service(spec("web", "nginx", 1)).await.unwrap();
    runs(&swarm, &service.id, 1).await;
    let selector = LogSelector { service_ids: vec![service.id.clone()], ..Default::default() };
    let mut logs = control.subscribe_logs(selector, options(false)).await.unwrap();
    let error = timeout(DEADLINE, logs.next()).await.unwrap().unwrap().unwrap_err().to_string();
    let reason = format!("for the following reasons: node {} is not available", worker.id);
    assert!(error.ends_with(&reason), "{error}");
    assert!(logs.next().await.is_none());
    let empty = control.subscribe_logs(LogSelector::default(), options(false)).await.err().unwrap();
    assert_eq!(empty.to_string(), "rpc error: code = InvalidArgument desc = log selector must not be empty");

    // A node speaks only for itself, and only for subscriptions that there are.
    let publish_one = |message: PublishLogsMessage| {
        let mut client = worker.log_broker();
        async move { client.publish_logs(futures_util::stream::iter([message])).await.unwrap_err().code() }
    };
    assert_eq!(publish_one(publish("nosuch", vec![], false)).await, Code::NotFound);
    assert_eq!(publish_one(publish("", vec![], false)).await, Code::InvalidArgument);
}
