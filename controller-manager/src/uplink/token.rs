//! The token in a kubeconfig, and what it says of itself; pure.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// A service account's token that runs out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) namespace: String,
    pub(crate) account: String,
    pub(crate) issued: Timestamp,
    pub(crate) expires: Timestamp,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    iat: i64,
    exp: i64,
}

impl Token {
    /// What a token says of itself; nothing where it is none of a service account, or has no end. Nobody is believed
    /// because of it: whether it is good is the API server's to say.
    pub(crate) fn read(text: &str) -> Option<Token> {
        let payload = URL_SAFE_NO_PAD.decode(text.split('.').nth(1)?).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        let (namespace, account) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        Some(Token {
            text: text.to_owned(),
            namespace: namespace.to_owned(),
            account: account.to_owned(),
            issued: Timestamp::from_second(claims.iat).ok()?,
            expires: Timestamp::from_second(claims.exp).ok()?,
        })
    }

    /// Half of its life.
    pub(crate) fn half_life(&self) -> Duration {
        let life = self.expires.as_second() - self.issued.as_second();
        Duration::from_secs(u64::try_from(life / 2).unwrap_or_default())
    }

    /// For how long it need not be renewed, if the clock is right; and no longer than a new one, if it is not.
    pub(crate) fn fresh_for(&self, now: Timestamp) -> Duration {
        let age = u64::try_from(now.as_second() - self.issued.as_second()).unwrap_or_default();
        self.half_life().saturating_sub(Duration::from_secs(age))
    }

    /// Whether `self` is a later token of the same account.
    pub(crate) fn replaces(&self, other: &Token) -> bool {
        let account = |token: &Token| (token.namespace.clone(), token.account.clone());
        account(self) == account(other) && self.expires > other.expires
    }
}

/// Never the token itself.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token of {}/{} until {}", self.namespace, self.account, self.expires)
    }
}

/// A kubeconfig as a document. What stands near a fault is not repeated: it may be a secret.
pub(crate) fn document(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text)
        .map_err(|error| format!("it is not the YAML of a kubeconfig: {}", error.without_snippet()))
}

/// The token of the user of the current context.
pub(crate) fn token(kubeconfig: &Value) -> Option<&str> {
    let user = current_user(kubeconfig)?;
    let users = kubeconfig["users"].as_array()?;
    users.iter().find(|entry| entry["name"] == *user)?["user"]["token"].as_str()
}

/// The same kubeconfig with another token for that user, and everything else as it was.
pub(crate) fn with_token(mut kubeconfig: Value, token: &str) -> Value {
    let Some(user) = current_user(&kubeconfig).cloned() else { return kubeconfig };
    let users = kubeconfig["users"].as_array_mut().into_iter().flatten();
    for entry in users.filter(|entry| entry["name"] == user) {
        entry["user"]["token"] = Value::from(token);
    }
    kubeconfig
}

fn current_user(kubeconfig: &Value) -> Option<&Value> {
    let contexts = kubeconfig["contexts"].as_array()?;
    let current = contexts.iter().find(|entry| entry["name"] == kubeconfig["current-context"])?;
    Some(&current["context"]["user"])
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) fn jwt(account: &str, issued: i64, expires: i64) -> String {
        let claims = json!({"sub": format!("system:serviceaccount:clusterlink-members:{account}"),
            "iat": issued, "exp": expires});
        format!("e30.{}.signature", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_to_renew_it() {
        let token = Token::read(&jwt("east", 1000, 1000 + 86_400)).unwrap();
        assert_eq!((token.namespace.as_str(), token.account.as_str()), ("clusterlink-members", "east"));
        let fresh_for = |now| token.fresh_for(Timestamp::from_second(now).unwrap()).as_secs();
        assert_eq!((fresh_for(1000), fresh_for(1000 + 43_000), fresh_for(1000 + 50_000)), (43_200, 200, 0));
        assert_eq!(fresh_for(0), 43_200, "a clock that is behind does not make it live longer");
        assert!(!format!("{token:?}").contains("signature"));
    }

    #[test]
    fn what_is_no_token_of_a_service_account_is_not_renewed() {
        let other = format!("a.{}.b", URL_SAFE_NO_PAD.encode(r#"{"sub": "alice", "iat": 1, "exp": 2}"#));
        let endless = format!("a.{}.b", URL_SAFE_NO_PAD.encode(r#"{"sub": "system:serviceaccount:a:b"}"#));
        for text in ["", "static-token", "a.b.c", "a.%%.c", &other, &endless] {
            assert_eq!(Token::read(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_later_token_of_the_same_account_replaces_one() {
        let token = |account, expires| Token::read(&jwt(account, 1, expires)).unwrap();
        assert!(token("east", 9).replaces(&token("east", 8)));
        assert!(!token("east", 8).replaces(&token("east", 8)));
        assert!(!token("west", 9).replaces(&token("east", 8)));
    }

    #[test]
    fn a_token_is_replaced_where_it_stands_and_nothing_else_is() {
        let text = r#"
current-context: b
extensions: [{name: newer, extension: {kept: true}}]
contexts: [{name: a, context: {cluster: c, user: ua}}, {name: b, context: {cluster: c, user: ub}}]
clusters: [{name: c, cluster: {server: "https://192.0.2.1", newer-field: 7}}]
users: [{name: ua, user: {token: one}}, {name: ub, user: {token: two}}]
"#;
        let before = document(text).unwrap();
        assert_eq!(token(&before), Some("two"));
        let written = serde_saphyr::to_string(&with_token(before.clone(), "three")).unwrap();
        let mut after = document(&written).unwrap();
        assert_eq!(token(&after), Some("three"));
        after["users"][1]["user"]["token"] = json!("two");
        assert_eq!(after, before);
    }

    #[test]
    fn documents_of_any_shape_are_no_trouble() {
        for text in ["", "7", "[]", "users: 3", "current-context: x\ncontexts: [{name: x}]"] {
            if let Ok(document) = document(text) {
                assert_eq!(token(&document), None, "{text}");
                with_token(document, "new");
            }
        }
        assert!(!document("token: [secret-word").unwrap_err().contains("secret-word"));
    }
}
