// SPDX-License-Identifier: Apache-2.0
//! The operator's proxy: which destinations go through it, and the handshake with it.
//!
//! The proxy resolves names itself, so addresses behind it cannot be judged. Whatever must not be
//! reached has to be refused before.

mod bypass;
mod handshake;
mod server;

pub use handshake::{PROXY_TIMEOUT, ProxyError, connect_through};
pub use server::{ProxyScheme, ProxyServer, ProxyUrlError};

use bypass::ProxyBypass;

/// The proxies for destinations, and the destinations without one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySettings {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    all: Option<ProxyServer>,
    bypass: ProxyBypass,
}

/// A proxy variable that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use the proxy of the variable {variable}")]
pub struct ProxyVariableError {
    /// The name of the variable.
    pub variable: &'static str,
    /// The fault of its value.
    #[source]
    pub error: ProxyUrlError,
}

impl ProxySettings {
    /// Reads the variables of an environment as curl does: lower case goes before upper case, an
    /// empty value counts as unset, and `http_proxy` is read in lower case only, because a CGI
    /// program receives `HTTP_PROXY` from its client.
    pub fn from_variables<N, V>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ProxyVariableError>
    where
        N: AsRef<str>,
        V: AsRef<str>,
    {
        let mut variables: Vec<(&'static str, String)> = variables
            .into_iter()
            .filter_map(|(name, value)| {
                let known = VARIABLES
                    .into_iter()
                    .find(|known| *known == name.as_ref())?;
                let value = value.as_ref().trim();
                (!value.is_empty()).then(|| (known, value.to_owned()))
            })
            .collect();
        let mut first_set = |names: &[&str]| {
            names.iter().find_map(|name| {
                let index = variables.iter().position(|(set, _)| set == name)?;
                Some(variables.swap_remove(index))
            })
        };
        Ok(Self {
            http: first_set(&["http_proxy"]).map(parse_variable).transpose()?,
            https: first_set(&["https_proxy", "HTTPS_PROXY"])
                .map(parse_variable)
                .transpose()?,
            all: first_set(&["all_proxy", "ALL_PROXY"])
                .map(parse_variable)
                .transpose()?,
            bypass: first_set(&["no_proxy", "NO_PROXY"])
                .map(|(_, list)| ProxyBypass::parse(&list))
                .unwrap_or_default(),
        })
    }

    /// Returns settings that use one proxy for everything but this host's loopback.
    pub fn explicit(url: &str) -> Result<Self, ProxyUrlError> {
        Ok(Self {
            all: Some(url.parse()?),
            ..Self::default()
        })
    }

    /// Returns the proxy for a destination, if it has one. `host` is a name or an address.
    ///
    /// Port 80 uses `http_proxy`, every other port `https_proxy`; `all_proxy` stands in for both.
    /// Loopback never has a proxy: it would be the proxy's own.
    pub fn proxy_for(&self, host: &str, port: u16) -> Option<&ProxyServer> {
        if self.bypass.covers(host, port) {
            return None;
        }
        let server = if port == 80 { &self.http } else { &self.https };
        server.as_ref().or(self.all.as_ref())
    }

    /// Returns every proxy in use, for example to keep a sandbox away from them.
    pub fn servers(&self) -> impl Iterator<Item = &ProxyServer> {
        [&self.http, &self.https, &self.all].into_iter().flatten()
    }
}

/// The variables read.
const VARIABLES: [&str; 7] = [
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

fn parse_variable(
    (variable, value): (&'static str, String),
) -> Result<ProxyServer, ProxyVariableError> {
    value
        .parse()
        .map_err(|error| ProxyVariableError { variable, error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> ProxySettings {
        ProxySettings::from_variables(variables.iter().copied()).unwrap()
    }

    #[track_caller]
    fn check(variables: &[(&str, &str)], host: &str, port: u16, expected: Option<&str>) {
        let settings = settings(variables);
        let proxy = settings.proxy_for(host, port).map(ProxyServer::host);
        assert_eq!(proxy, expected, "{variables:?} {host}:{port}");
    }

    #[test]
    fn variables_are_read_as_curl_does() {
        let both = [("http_proxy", "a:1"), ("https_proxy", "b:1")];
        check(&both, "example.org", 80, Some("a"));
        check(&both, "example.org", 443, Some("b"));
        check(&both, "example.org", 22, Some("b"));
        check(&[("HTTPS_PROXY", "b:1")], "example.org", 443, Some("b"));
        check(&[("HTTPS_PROXY", "b:1")], "example.org", 80, None);
        check(
            &[("HTTPS_PROXY", "upper:1"), ("https_proxy", "lower:1")],
            "x.org",
            443,
            Some("lower"),
        );
        check(
            &[("HTTPS_PROXY", "upper:1"), ("https_proxy", " ")],
            "x.org",
            443,
            Some("upper"),
        );
        check(&[("HTTP_PROXY", "cgi:1")], "example.org", 80, None);
        check(
            &[("ALL_PROXY", "c:1"), ("https_proxy", "b:1")],
            "example.org",
            80,
            Some("c"),
        );
        check(
            &[("ALL_PROXY", "c:1"), ("https_proxy", "b:1")],
            "example.org",
            443,
            Some("b"),
        );
        check(
            &[("all_proxy", "c:1"), ("no_proxy", "example.org")],
            "example.org",
            80,
            None,
        );
        check(
            &[("all_proxy", "c:1"), ("NO_PROXY", "example.org")],
            "example.org",
            80,
            None,
        );
        check(&[], "example.org", 443, None);
    }

    #[test]
    fn bad_variable_is_named_without_its_value() {
        let variables = [("ALL_PROXY", "https://user:secret@proxy")];
        let error = ProxySettings::from_variables(variables).unwrap_err();
        assert_eq!(error.variable, "ALL_PROXY");
        assert!(!format!("{error:?} {error} {}", error.error).contains("secret"));
    }

    #[test]
    fn explicit_proxy_serves_everything_but_loopback() {
        let settings = ProxySettings::explicit("socks5h://proxy.corp:1080").unwrap();
        for (host, port) in [("example.org", 80), ("example.org", 22), ("192.0.2.1", 443)] {
            assert!(settings.proxy_for(host, port).is_some(), "{host}");
        }
        for host in ["localhost", "a.localhost", "127.0.0.1", "::1", "LOCALHOST."] {
            assert_eq!(settings.proxy_for(host, 80), None, "{host}");
        }
        assert_eq!(settings.servers().count(), 1);
        assert!(ProxySettings::explicit("").is_err());
    }

    #[test]
    fn debug_output_hides_the_password() {
        let settings = settings(&[("all_proxy", "http://user:s3cr%65t@proxy:3128")]);
        let text = format!("{settings:?}");
        assert!(text.contains("user") && !text.contains("s3cr"), "{text}");
        assert_eq!(
            settings.servers().next().unwrap().to_string(),
            "http://proxy:3128"
        );
    }
}
