//! How somebody proves to a server who they are, and the server who it is.
//!
//! Owns: where a password comes from: a file, the variable CAIRN_PASSWORD, a prompt; never the command line, which others can
//! read. Does not own: sending it (`remote`).

use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use cairn_server::config::PASSWORD_VARIABLE;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::prompt;
use crate::failure::Failure;

/// A user's name and password.
#[derive(Clone)]
pub(crate) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({:?}, ***)", self.user)
    }
}

impl Login {
    /// That of `user`, with the password in `file`, else in the environment, else typed at the terminal.
    ///
    /// # Errors
    /// When the file can't be read, or there is nobody to ask.
    pub(crate) fn read(user: &str, file: Option<&Path>) -> Result<Self, Failure> {
        let user = user.to_owned();
        if let Some(path) = file {
            let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            let password = text.trim_end_matches(['\n', '\r']).to_owned();
            return Ok(Self { user, password });
        }
        match std::env::var(PASSWORD_VARIABLE) {
            Ok(password) => Ok(Self { user, password }),
            Err(_) => asked(&user).map(|password| Self { user, password }),
        }
    }
}

fn asked(user: &str) -> Result<String, Failure> {
    let nobody = || {
        Failure::new("28000", format!("there is no password for {user}"))
            .with_hint("set CAIRN_PASSWORD, or give --password-file FILE; at a terminal it is asked for")
    };
    if !io::stdin().is_terminal() {
        return Err(nobody());
    }
    match prompt::unseen(&format!("password of {user}: ")) {
        Ok(Some(password)) => Ok(password),
        Ok(None) | Err(_) => Err(nobody()),
    }
}

/// Files of an encrypted connection, all PEM.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// Roots that the server's certificate must lead to; None: those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// The client's own certificate and its private key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// What the transport needs of them.
    ///
    /// # Errors
    /// Naming the file that can't be read.
    pub(super) fn config(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |path: &PathBuf| fs::read(path).map_err(|error| unreadable(path, &error));
        let config = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.own {
            Some((certificate, key)) => {
                Ok(config.identity(Identity::from_pem(read(certificate)?, read(key)?)))
            }
            None => Ok(config),
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new("58030", format!("{} can't be read: {error}", path.display()))
}
