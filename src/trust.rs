//! Whom a worker believes, as the settings describe it.

use serve_config::{ForwardedStyle, HeaderMap, ProxyProtocol, Settings};
use serve_http::ProxyVersion;
use serve_net::{Networks, Proxy, Style, Trust, Underscores};

/// Reads what only `serve-net` understands.
pub(crate) fn trust(settings: &Settings) -> Result<Trust, String> {
    let pair = |text: &String| {
        text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    Ok(Trust {
        proxies: networks(settings, "forwarded_allow_ips", &settings.forwarded_allow_ips)?,
        scheme_headers: settings.secure_scheme_headers.iter().filter_map(pair).collect(),
        forwarder_headers: settings.forwarder_headers.clone(),
        underscores: match settings.header_map {
            HeaderMap::Drop => Underscores::Drop,
            HeaderMap::Refuse => Underscores::Refuse,
            HeaderMap::Dangerous => Underscores::Keep,
        },
        hops: settings.trust_forwarded,
        style: match settings.forwarded_style {
            ForwardedStyle::XForwarded => Style::XForwarded,
            ForwardedStyle::Forwarded => Style::Forwarded,
        },
    })
}

/// Who speaks the PROXY protocol.
pub(crate) fn proxy(settings: &Settings) -> Result<Option<Proxy>, String> {
    let version = match settings.proxy_protocol {
        ProxyProtocol::Off => return Ok(None),
        ProxyProtocol::V1 => ProxyVersion::V1,
        ProxyProtocol::V2 => ProxyVersion::V2,
        ProxyProtocol::Auto => ProxyVersion::Either,
    };
    Ok(Some(Proxy {
        from: networks(settings, "proxy_allow_ips", &settings.proxy_allow_ips)?,
        version,
    }))
}

fn networks(settings: &Settings, name: &str, texts: &[String]) -> Result<Networks, String> {
    Networks::parse(texts.iter().map(String::as_str))
        .map_err(|error| format!("{}: {error}", settings.place(name)))
}
