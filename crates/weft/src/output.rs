//! Standard output that somebody else closes.

/// Status of a program that a closed pipe ended: 128 and SIGPIPE's number, as shells show it.
const CLOSED_OUTPUT: i32 = 141;

/// Ends the process quietly once nobody reads its output any more (`weft ps | head -1`), where printing would panic.
pub(crate) fn end_quietly_when_closed() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let words = panic.payload_as_str().unwrap_or_default();
        if words.contains("Broken pipe") || words.contains("BrokenPipe") {
            std::process::exit(CLOSED_OUTPUT);
        }
        report(panic);
    }));
}
