//! `POST /images/{name}/push`.

use super::transfer::{answer, auth};
use crate::error::ApiResult;
use crate::request::Call;

pub(crate) async fn push(call: Call, name: String) -> ApiResult {
    let (auth, engine) = (auth(&call), call.state.engine.clone());
    let tag = call.query.some("tag").map(str::to_owned);
    answer(|progress| async move { engine.images().push(&name, tag.as_deref(), &auth, &progress).await })
        .await
}
