#![allow(clippy::unwrap_used)]
use super::settings::Environment;
use super::*;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn environment(variables: &[(&str, &str)]) -> StoreSettings {
    StoreSettings(Source::Environment(Environment::of(pairs(variables))))
}

fn explicit(settings: &[(&str, &str)]) -> Result<StoreSettings> {
    StoreSettings::explicit(pairs(settings))
}

/// The client's builder for `s3://data`.
fn s3_builder(settings: &StoreSettings) -> Result<AmazonS3Builder> {
    match &settings.0 {
        Source::Environment(environment) => s3::of_environment("data", environment),
        Source::Explicit(explicit) => s3::of_explicit("data", explicit),
    }
}

fn value(builder: &AmazonS3Builder, key: AmazonS3ConfigKey) -> String {
    builder.get_config_value(&key).unwrap_or_default()
}

fn built(url: &str, settings: &StoreSettings) -> Result<Arc<dyn ObjectStore>> {
    client(&StoreUrl::parse(url).unwrap(), settings, &RequestLimits::default())
}

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "swordfish")];

#[test]
fn s3_is_configured_by_the_environment() {
    let allow_http = AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp);
    let own = [KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "http://localhost:9000/"), ("AWS_REGION", "")];
    let builder = s3_builder(&environment(&own)).unwrap();
    assert_eq!(value(&builder, AmazonS3ConfigKey::AccessKeyId), "AKID");
    assert_eq!(value(&builder, AmazonS3ConfigKey::SecretAccessKey), "swordfish");
    assert_eq!(value(&builder, AmazonS3ConfigKey::S3Endpoint), "http://localhost:9000");
    assert_eq!(value(&builder, AmazonS3ConfigKey::Region), "us-east-1");
    assert_eq!(value(&builder, AmazonS3ConfigKey::Bucket), "data");
    assert_eq!(value(&builder, allow_http), "true");
    let aws =
        [KEYS[0], KEYS[1], ("AWS_DEFAULT_REGION", "eu-west-1"), ("AWS_BUCKET", "other"), ("PATH", "/bin")];
    let builder = s3_builder(&environment(&aws)).unwrap();
    assert_eq!(value(&builder, AmazonS3ConfigKey::Region), "eu-west-1");
    assert_eq!(value(&builder, AmazonS3ConfigKey::S3Endpoint), "");
    assert_eq!(value(&builder, AmazonS3ConfigKey::Bucket), "data");
    assert_eq!(value(&builder, allow_http), "false");
    // Both ways to write an endpoint whose hosts are named after buckets.
    for endpoint in ["https://store.example", "https://data.store.example"] {
        let named = [
            KEYS[0],
            KEYS[1],
            ("AWS_ENDPOINT_URL_S3", endpoint),
            ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true"),
        ];
        let builder = s3_builder(&environment(&named)).unwrap();
        assert_eq!(value(&builder, AmazonS3ConfigKey::S3Endpoint), "https://data.store.example");
    }
}

#[test]
fn s3_is_configured_by_explicit_settings() {
    let settings = explicit(&[
        ("KEY_ID", "AKID"),
        ("secret", "sword fish"),
        ("session_token", "token"),
        ("endpoint", "localhost:9000"),
        ("use_ssl", "false"),
        ("url_style", "path"),
    ])
    .unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("AKID") && !shown.contains("fish") && !shown.contains("\"token\""), "{shown}");
    let builder = s3_builder(&settings).unwrap();
    assert_eq!(value(&builder, AmazonS3ConfigKey::S3Endpoint), "http://localhost:9000");
    assert_eq!(value(&builder, AmazonS3ConfigKey::SecretAccessKey), "sword fish");
    assert_eq!(value(&builder, AmazonS3ConfigKey::Token), "token");
    assert_eq!(value(&builder, AmazonS3ConfigKey::Region), "us-east-1");
    let public = explicit(&[("anonymous", "true"), ("region", "eu-west-1"), ("url_style", "vhost")]).unwrap();
    let builder = s3_builder(&public).unwrap();
    assert_eq!(value(&builder, AmazonS3ConfigKey::SkipSignature), "true");
    assert_eq!(value(&builder, AmazonS3ConfigKey::VirtualHostedStyleRequest), "true");
    let shown = format!("{:?}", environment(&KEYS));
    assert!(shown.contains("AWS_ACCESS_KEY_ID") && !shown.contains("swordfish"), "{shown}");
}

#[test]
fn explicit_settings_that_can_not_be_are_refused() {
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("keyid", "hunter2")], "'keyid' is no setting"),
        (&[("key_id", "a"), ("KEY_ID", "hunter2")], "'key_id' is given twice"),
        (&[("secret", " ")], "'secret' is empty"),
        (&[("key_id", "hunter2\n")], "'key_id' has a character"),
        (&[("region", "hunter2.evil")], "'region' is made of"),
        (&[("use_ssl", "hunter2")], "'use_ssl' is neither"),
        (&[("use_ssl", "false")], "there is no 'endpoint'"),
        (&[("url_style", "hunter2")], "'url_style' is neither"),
        (&[("endpoint", "http://h"), ("use_ssl", "true")], "'use_ssl' denies"),
        (&[("endpoint", "https://hunter2@h")], "'endpoint' is not the address"),
    ];
    for (settings, why) in cases {
        let error = explicit(settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(why), "{error}");
        assert!(!error.message().contains("hunter2"), "{error}");
    }
    let unknown = explicit(&[("keyid", "x")]).unwrap_err();
    assert!(unknown.hint().unwrap().contains("key_id, secret, session_token"));
}

#[test]
fn what_a_client_lacks_is_named_and_no_secret_is() {
    let key = ("AZURE_STORAGE_ACCOUNT_KEY", "swordfish!");
    for (url, settings, hint) in [
        ("s3://data", environment(&KEYS[..1]), "AWS_SECRET_ACCESS_KEY"),
        ("s3://data", environment(&[KEYS[1]]), "AWS_ACCESS_KEY_ID"),
        (
            "s3://data",
            environment(&[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL", "swordfish@h")]),
            "http://host:port",
        ),
        ("s3://data", environment(&[KEYS[0], KEYS[1], ("AWS_ALLOW_HTTP", "perhaps")]), "AWS_…"),
        ("s3://data", explicit(&[("secret", "swordfish")]).unwrap(), "anonymous"),
        ("az://data", environment(&[key]), "AZURE_STORAGE_ACCOUNT_NAME"),
        (
            "az://data",
            environment(&[key, ("AZURE_STORAGE_ACCOUNT_NAME", "acme")]),
            "AZURE_STORAGE_ACCOUNT_KEY",
        ),
        ("az://data", explicit(&[("secret", "swordfish")]).unwrap(), "storage account"),
        (
            "gs://data",
            environment(&[("GOOGLE_SERVICE_ACCOUNT_KEY", "\"swordfish\"")]),
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        ("gs://data", explicit(&[("region", "x")]).unwrap(), ""),
    ] {
        let error = built(url, &settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{url}: {error}: {:?}", error.hint());
        assert!(!format!("{error:?}").contains("swordfish"), "{error:?}");
    }
}

#[test]
fn clients_are_built_without_a_request() {
    let s3 = explicit(&[("key_id", "AKID"), ("secret", "s"), ("endpoint", "http://[::1]:9000")]).unwrap();
    assert!(built("s3://data/db", &s3).is_ok());
    let azure =
        explicit(&[("key_id", "acme"), ("secret", "c2VjcmV0"), ("endpoint", "http://127.0.0.1:10000/acme")]);
    assert!(built("az://data/db", &azure.unwrap()).is_ok());
    let key = r#"{"private_key": "k", "private_key_id": "i", "client_email": "e", "disable_oauth": true}"#;
    assert!(built("gs://data", &explicit(&[("secret", key)]).unwrap()).is_ok());
}

#[test]
fn an_endpoint_is_an_address_and_nothing_else() {
    use super::endpoint::Endpoint;
    for (text, shown) in [
        ("https://store.example", "https://store.example"),
        ("HTTP://localhost:9000/", "http://localhost:9000"),
        ("http://10.0.0.1:80/account/", "http://10.0.0.1:80/account"),
        ("http://[fd00::1]", "http://[fd00::1]"),
        ("host_1.example:443", "https://host_1.example:443"),
    ] {
        assert_eq!(Endpoint::parse("x", text, Some(true)).unwrap().to_string(), shown);
    }
    for text in [
        "",
        "https://",
        "ftp://h",
        "https://a b",
        "https://k:s@h",
        "https://h:+80",
        "https://h:99999",
        "https://h:",
        "https://h?x=1",
        "https://h/a?x",
        "https://999.1.1.1",
        "https://a..b",
        "https://xn--a",
        "https://[::g]",
    ] {
        assert!(Endpoint::parse("x", text, Some(true)).is_err(), "{text}");
    }
    assert!(Endpoint::parse("x", "localhost:9000", None).is_err());
}

#[test]
fn buckets_of_one_name_are_told_apart_by_their_address() {
    let at = |url: &str, settings: &StoreSettings| address(&StoreUrl::parse(url).unwrap(), settings).unwrap();
    let with = |more: &[(&str, &str)]| environment(&[&KEYS[..], more].concat());
    assert_eq!(at("s3://data", &with(&[])), "");
    assert_eq!(
        at("s3://data", &with(&[("AWS_ENDPOINT_URL", "http://localhost:9000/")])),
        "http://localhost:9000"
    );
    let accounts = ["one", "two"].map(|name| at("az://data", &with(&[("AZURE_STORAGE_ACCOUNT_NAME", name)])));
    assert_eq!(accounts, ["one", "two"]);
    assert_eq!(at("gs://data", &with(&[("GOOGLE_BASE_URL", "http://localhost:1")])), "http://localhost:1");
    assert!(!at("gs://data", &with(&[])).contains("swordfish"));
}

#[test]
fn only_settings_of_strangers_are_guarded() {
    let settings = explicit(&[("endpoint", "localhost:9000"), ("anonymous", "true")]).unwrap();
    assert!(!settings.is_guarded() && settings.clone().guarded().is_guarded());
    assert!(!environment(&KEYS).guarded().is_guarded());
    for url in ["s3://data", "gs://data"] {
        built(url, &settings.clone().guarded()).unwrap();
    }
}
