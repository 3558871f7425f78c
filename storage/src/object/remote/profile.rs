//! Profiles of the AWS command line: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Read are keys, region and `endpoint_url`; profiles that get their keys in another way are refused by name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::settings::{Environment, Secret, wrong};
use crate::error::{Error, ErrorKind, Result};

/// Settings that make a profile's keys in a way of their own.
const OTHER_WAYS: [&str; 6] =
    ["sso_session", "sso_start_url", "credential_process", "role_arn", "login_session", "credential_source"];

/// What a profile has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Profile {
    pub(super) key_id: Option<String>,
    pub(super) secret: Option<Secret>,
    pub(super) session_token: Option<Secret>,
    pub(super) region: Option<String>,
    pub(super) endpoint_url: Option<String>,
}

/// The settings of each section.
type Sections = BTreeMap<String, BTreeMap<String, String>>;

impl Profile {
    /// The profile that the environment names, or "default"; None when the environment has a key or a web identity of its
    /// own, or nobody has made a profile.
    ///
    /// # Errors
    /// `InvalidInput` when the named profile is nowhere, `Unsupported` when it has no keys but another way to them; errors
    /// of reading.
    pub(super) fn of(environment: &Environment) -> Result<Option<Self>> {
        let web_identity = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some()
            && environment.get("AWS_ROLE_ARN").is_some();
        if environment.get("AWS_ACCESS_KEY_ID").is_some() || web_identity {
            return Ok(None);
        }
        let credentials = read(file_of(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials"))?;
        let config = read(file_of(environment, "AWS_CONFIG_FILE", "config"))?;
        Self::find(environment.get("AWS_PROFILE"), &credentials, &config)
    }

    fn find(named: Option<&str>, credentials: &str, config: &str) -> Result<Option<Self>> {
        let name = named.unwrap_or("default");
        let credentials = sections(credentials).remove(name);
        let mut config = sections(config);
        let config = match name {
            "default" => config.remove("default").or_else(|| config.remove("profile default")),
            name => config.remove(&format!("profile {name}")),
        };
        if credentials.is_none() && config.is_none() {
            return match named {
                Some(name) => Err(wrong(format!("there is no AWS profile '{name}'")).with_hint(
                    "check AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE, or set AWS_ACCESS_KEY_ID",
                )),
                None => Ok(None),
            };
        }
        let (credentials, config) = (credentials.unwrap_or_default(), config.unwrap_or_default());
        let value = |key: &str| credentials.get(key).or_else(|| config.get(key)).cloned();
        let (key_id, secret) = (value("aws_access_key_id"), value("aws_secret_access_key"));
        if key_id.is_some() != secret.is_some() {
            return Err(wrong(format!("AWS profile '{name}' has only one of key id and secret access key")));
        }
        if key_id.is_none()
            && let Some(way) = OTHER_WAYS.iter().find(|way| value(way).is_some())
        {
            let message = format!("AWS profile '{name}' gets its keys by '{way}', which Cairn can't do");
            return Err(Error::new(ErrorKind::Unsupported, message).with_hint(format!(
                "set what 'aws configure export-credentials --profile {name} --format env' prints"
            )));
        }
        Ok(Some(Self {
            key_id,
            secret: secret.map(Secret::new),
            session_token: value("aws_session_token").map(Secret::new),
            region: value("region"),
            endpoint_url: value("endpoint_url"),
        }))
    }
}

/// The file that `variable` names, or the one in `~/.aws`.
fn file_of(environment: &Environment, variable: &str, file: &str) -> Option<PathBuf> {
    let home = || environment.get("HOME").or_else(|| environment.get("USERPROFILE"));
    match environment.get(variable) {
        Some(path) => Some(PathBuf::from(path)),
        None => home().map(|home| Path::new(home).join(".aws").join(file)),
    }
}

/// The file's text; empty when there is no such file.
fn read(path: Option<PathBuf>) -> Result<String> {
    let Some(path) = path else { return Ok(String::new()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(String::new())
        }
        Err(error) => Err(Error::io(format!("reading {}", path.display()), error)),
    }
}

/// Reads `[section]` and `key = value`. A line indented more than the key above it belongs to that key's value, which no
/// setting read here has.
fn sections(text: &str) -> Sections {
    let mut sections = Sections::new();
    let mut section = None;
    let mut key_indent = None;
    for line in text.lines() {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = content.strip_prefix('[') {
            let name = section_name(header.split(']').next().unwrap_or_default());
            sections.entry(name.clone()).or_default();
            (section, key_indent) = (Some(name), None);
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if key_indent.is_some_and(|above| indent > above) {
            continue;
        }
        let (Some(name), Some((key, value))) = (&section, content.split_once('=')) else { continue };
        key_indent = Some(indent);
        let value = without_comment(value).trim();
        if !value.is_empty()
            && let Some(settings) = sections.get_mut(name)
        {
            settings.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    sections
}

/// `profile  "a b"` as `profile a b`
fn section_name(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace(['"', '\''], "")
}

/// A comment behind a value begins with a space.
fn without_comment(value: &str) -> &str {
    let begins = [" #", "\t#", " ;", "\t;"].iter().filter_map(|mark| value.find(mark)).min();
    begins.map_or(value, |at| &value[..at])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CREDENTIALS: &str = "\
# keys
[default]
aws_access_key_id = AKDEFAULT
aws_secret_access_key=abc/def+ghi==

[ work ]   # the other
  aws_access_key_id = AKWORK
  aws_secret_access_key = s3cr#et ; not this
  AWS_SESSION_TOKEN = token=with=equals
; [gone]
[half]
aws_access_key_id = AKHALF
";

    const CONFIG: &str = "\
[default]
region = eu-central-1
s3 =
    endpoint_url = http://nested:1
    region = nested
output = json
[profile work]
region = eu-west-1 # Ireland
endpoint_url = http://localhost:9000
[profile \"by sso\"]
sso_session = corp
region = eu-north-1
[sso-session corp]
sso_region = eu-north-1
";

    fn find(name: Option<&str>) -> Result<Option<Profile>> {
        Profile::find(name, CREDENTIALS, CONFIG)
    }

    #[test]
    fn a_profile_has_its_keys_region_and_endpoint() {
        let default = find(None).unwrap().unwrap();
        assert_eq!(default.key_id.as_deref(), Some("AKDEFAULT"));
        assert_eq!(default.secret.as_ref().map(Secret::expose), Some("abc/def+ghi=="));
        assert_eq!((default.session_token, default.endpoint_url), (None, None));
        assert_eq!(default.region.as_deref(), Some("eu-central-1"));
        let work = find(Some("work")).unwrap().unwrap();
        assert_eq!(work.key_id.as_deref(), Some("AKWORK"));
        assert_eq!(work.secret.as_ref().map(Secret::expose), Some("s3cr#et"));
        assert_eq!(work.session_token.as_ref().map(Secret::expose), Some("token=with=equals"));
        assert_eq!(work.region.as_deref(), Some("eu-west-1"));
        assert_eq!(work.endpoint_url.as_deref(), Some("http://localhost:9000"));
    }

    #[test]
    fn a_profile_without_usable_keys_says_why() {
        assert_eq!(find(Some("nobody")).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(find(Some("half")).unwrap_err().kind(), ErrorKind::InvalidInput);
        // A section of the configuration that is no profile.
        assert_eq!(find(Some("sso-session corp")).unwrap_err().kind(), ErrorKind::InvalidInput);
        let by_sso = find(Some("by sso")).unwrap_err();
        assert_eq!(by_sso.kind(), ErrorKind::Unsupported);
        assert!(by_sso.message().contains("sso_session"), "{by_sso}");
        assert_eq!(Profile::find(None, "", "").unwrap(), None);
    }

    #[test]
    fn files_are_read_unless_the_environment_has_a_key() {
        let directory = tempfile::tempdir().unwrap();
        let aws = directory.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        std::fs::write(aws.join("credentials"), CREDENTIALS).unwrap();
        let other = directory.path().join("other");
        std::fs::write(&other, CREDENTIALS.replace("AKWORK", "AKOTHER")).unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let key_id = |more: &[(&str, &str)]| {
            let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let home = ("HOME".to_owned(), home.clone());
            Profile::of(&Environment::of(more.chain([home]))).unwrap().and_then(|profile| profile.key_id)
        };
        assert_eq!(key_id(&[]).as_deref(), Some("AKDEFAULT"));
        assert_eq!(key_id(&[("AWS_PROFILE", "work")]).as_deref(), Some("AKWORK"));
        let other = other.to_str().unwrap();
        let moved = [("AWS_PROFILE", "work"), ("AWS_SHARED_CREDENTIALS_FILE", other)];
        assert_eq!(key_id(&moved).as_deref(), Some("AKOTHER"));
        assert_eq!(key_id(&[("AWS_ACCESS_KEY_ID", "AKENV")]), None);
        let web = [("AWS_WEB_IDENTITY_TOKEN_FILE", "token"), ("AWS_ROLE_ARN", "role")];
        assert_eq!(key_id(&web), None);
        assert_eq!(key_id(&[("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/at all")]), None);
    }
}
