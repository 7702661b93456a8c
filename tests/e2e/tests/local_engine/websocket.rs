//! Attach over a web socket, with the client of Debian's package python3-websocket.

use weft_e2e::Hosts;

use crate::{docker, up};

/// Attaches, with a query, and runs lines of Python with `ws`; what they print.
fn python(hosts: &Hosts, version: &str, query: &str, lines: &str) -> String {
    let socket = hosts.daemon("h1").socket.display();
    let script = format!(
        "import socket, websocket\n\
         s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect('{socket}')\n\
         ws = websocket.create_connection('ws://docker/{version}/containers/c1/attach/ws?{query}', socket=s)\n\
         {lines}"
    );
    let output = std::process::Command::new("timeout")
        .args(["30", "/usr/bin/python3", "-c", &script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[test]
fn a_web_socket_attaches_both_ways() {
    let hosts = up("websock");
    let echo = "while read line; do echo got $line; echo bad $line >&2; done";
    docker(&hosts, ["run", "-d", "-i", "--stop-timeout", "0", "--name", "c1", "busybox", "sh", "-c", echo]);
    let all = "stdin=1&stdout=1&stderr=1&stream=1";
    // Both outputs come, unframed, in binary messages.
    let lines = "ws.send('one\\n')\n\
                 text = b''\n\
                 while not (b'got one\\n' in text and b'bad one\\n' in text): text += ws.recv_data()[1]\n\
                 print(len(text))\n\
                 ws.close()";
    assert_eq!(python(&hosts, "v1.41", all, lines), "16");
    assert_eq!(docker(&hosts, ["inspect", "--format", "{{.State.Running}}", "c1"]), "true");
    // From 1.42 on only what is asked for; the log first, if it is.
    let lines = "text = b''\n\
                 while b'got one\\n' not in text: text += ws.recv_data()[1]\n\
                 ws.send('two\\n')\n\
                 while b'got two\\n' not in text: text += ws.recv_data()[1]\n\
                 print(b'bad' in text)\n\
                 ws.close()";
    assert_eq!(python(&hosts, "v1.43", "stdin=1&stdout=1&stream=1&logs=1", lines), "False");
    let lines = "ws.send('three\\n')\nprint(ws.recv_data()[0] == websocket.ABNF.OPCODE_TEXT)\nws.close()";
    assert_eq!(python(&hosts, "v1.24", all, lines), "True");
    // The end of the container ends it.
    let lines = "import subprocess\n\
                 subprocess.run(['docker', '-H', 'unix://SOCKET', 'kill', 'c1'], check=True)\n\
                 kind, _ = ws.recv_data()\n\
                 print(kind == websocket.ABNF.OPCODE_CLOSE)";
    let lines = lines.replace("SOCKET", &hosts.daemon("h1").socket.display().to_string());
    assert!(python(&hosts, "v1.43", all, &lines).ends_with("True"));
}
