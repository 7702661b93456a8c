use super::*;

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/vectors/01-join-and-ca.json")).unwrap()
}

fn text<'a>(vectors: &'a serde_json::Value, key: &str) -> &'a str {
    vectors[key].as_str().unwrap()
}

#[test]
fn captured_tokens_match_the_captured_root() {
    let vectors = vectors();
    let root = text(&vectors, "root_ca_pem");
    for key in ["worker_join_token", "manager_join_token"] {
        let token: JoinToken = text(&vectors, key).parse().unwrap();
        assert_eq!(token.to_string(), text(&vectors, key));
        token.check_root(root.as_bytes()).unwrap();
        assert!(token.text_matches(text(&vectors, key)));
    }
    let worker: JoinToken = text(&vectors, "worker_join_token").parse().unwrap();
    assert_eq!(hex::encode(worker.secret), text(&vectors, "token_secret_bytes_hex_worker"));
    assert_eq!(hex::encode(worker.digest), text(&vectors, "root_ca_pem_sha256"));
    assert!(!worker.text_matches(text(&vectors, "manager_join_token")));
}

#[test]
fn another_root_is_refused_even_if_it_differs_by_a_newline() {
    let vectors = vectors();
    let token: JoinToken = text(&vectors, "worker_join_token").parse().unwrap();
    let root = text(&vectors, "root_ca_pem").trim_end();
    let error = token.check_root(root.as_bytes()).unwrap_err();
    assert!(error.to_string().contains(text(&vectors, "root_ca_pem_sha256")), "{error}");
}

#[test]
fn malformed_tokens_are_refused() {
    let good = text(&vectors(), "worker_join_token").to_owned();
    let digest = good.split('-').nth(2).unwrap().to_owned();
    let secret = good.split('-').nth(3).unwrap().to_owned();
    for bad in [
        String::new(),
        "SWMTKN".into(),
        format!("SWMTKN-3-{digest}-{secret}"),
        format!("SWMTKN-2-{digest}-{secret}"),
        format!("SWMTKN-2-2-{digest}-{secret}"),
        format!("SWMTKN-1-{digest}"),
        format!("SWMTKN-1-{digest}-{secret}-"),
        format!("SWMTKN-1-{digest}-{}", &secret[1..]),
        format!("SWMTKN-1-{}-{secret}", digest.to_uppercase()),
        format!("SWMTKN-1-{}-{secret}", "z".repeat(50)),
        format!(" {good}"),
    ] {
        assert_eq!(bad.parse::<JoinToken>().unwrap_err(), TokenError::Malformed, "{bad}");
    }
}

#[test]
fn fips_form_is_read_and_kept() {
    let good = text(&vectors(), "worker_join_token").replace("-1-", "-2-1-");
    let token: JoinToken = good.parse().unwrap();
    assert!(token.requires_fips());
    assert_eq!(token.to_string(), good);
}

#[test]
fn rotation_keeps_the_secret() {
    let token = JoinToken::generate(&mut rand::rng(), "one root");
    let rotated = token.with_root("another root");
    assert_eq!(rotated.secret, token.secret);
    assert!(rotated.check_root(b"another root").is_ok());
    assert!(rotated.check_root(b"one root").is_err());
}

#[test]
fn debug_text_keeps_the_secret_out_of_logs() {
    let token = JoinToken::generate(&mut rand::rng(), "root");
    let digits = token.to_string();
    assert!(!format!("{token:?}").contains(&digits[digits.len() - 25..]));
}

proptest::proptest! {
    #[test]
    fn any_text_parses_or_is_refused(text in ".{0,120}") {
        if let Ok(token) = text.parse::<JoinToken>() {
            assert_eq!(token.to_string(), text);
        }
    }

    #[test]
    fn any_damage_parses_or_is_refused(at in 0usize..85, byte in 0u8..128) {
        let mut bytes = text(&vectors(), "worker_join_token").as_bytes().to_vec();
        bytes[at] = byte;
        let damaged = String::from_utf8(bytes).unwrap();
        if let Ok(token) = damaged.parse::<JoinToken>() {
            assert_eq!(token.to_string(), damaged);
        }
    }
}
