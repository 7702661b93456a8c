//! `POST /images/create?fromImage=`.

use weft_engine::PullOptions;

use super::transfer::{answer, auth};
use crate::error::ApiResult;
use crate::request::Call;

pub(super) async fn pull(call: Call) -> ApiResult {
    let image = call.query.get("fromImage").to_owned();
    let tag = call.query.some("tag").map(str::to_owned);
    let options = PullOptions { auth: auth(&call), platform: call.query.some("platform").map(str::to_owned) };
    let engine = call.state.engine.clone();
    answer(|progress| async move {
        let images = engine.images();
        match reference(&image, tag.as_deref()) {
            Some(reference) => images.pull(&reference, &options, &progress).await.map(|_| ()),
            None => images.pull_all(&image, &options, &progress).await,
        }
    })
    .await
}

/// What is pulled: the tag may stand in either parameter and may be a digest; without any, all tags are meant.
fn reference(image: &str, tag: Option<&str>) -> Option<String> {
    let has_tag = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
    match tag {
        Some(digest) if digest.starts_with("sha256:") => Some(format!("{image}@{digest}")),
        Some(tag) if !has_tag => Some(format!("{image}:{tag}")),
        _ => has_tag.then(|| image.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::reference;

    #[test]
    fn tag_and_digest_come_in_either_parameter() {
        let digest = format!("sha256:{}", "0".repeat(64));
        assert_eq!(reference("r:5000/a", Some("1")).as_deref(), Some("r:5000/a:1"));
        assert_eq!(reference("r:5000/a:1", None).as_deref(), Some("r:5000/a:1"));
        assert_eq!(reference("a", Some(&digest)), Some(format!("a@{digest}")));
        assert_eq!(reference("r:5000/a", None), None);
    }
}
