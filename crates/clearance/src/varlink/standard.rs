// SPDX-License-Identifier: Apache-2.0
//! `org.varlink.service`: what every varlink service says about itself, and the errors of all.

use serde::{Deserialize, Serialize};

use super::{ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface};

/// The interface that every service has, <https://varlink.org/Service>.
pub const SERVICE_INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.varlink.service",
    description: include_str!("org.varlink.service.varlink"),
};

/// An error that any method of any service may return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum StandardError {
    /// The service has no such interface.
    #[error("there is no interface {interface:?}")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// The interface's name.
        interface: String,
    },
    /// The interface has no such method.
    #[error("the interface has no method {method:?}")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// The method's name without its interface's, as the Python stack gives it.
        method: String,
    },
    /// The interface has such a method, but this service does not implement it.
    #[error("the method {method:?} is not implemented")]
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented {
        /// The method's name without its interface's.
        method: String,
    },
    /// A parameter is missing, unknown, twice there, or not of its type.
    #[error("the parameter {parameter:?} is missing, unknown or not what it should be")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// The parameter's name.
        parameter: String,
    },
    /// The caller may not do that.
    #[error("permission denied")]
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied,
    /// The method has many replies and must be called with `more`.
    #[error("the method must be called with \"more\"")]
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore,
}

impl StandardError {
    /// Returns the error for a parameter that is missing, unknown or not of its type.
    pub fn invalid_parameter(parameter: &str) -> Self {
        Self::InvalidParameter {
            parameter: parameter.to_owned(),
        }
    }
}

/// Answers a call of `org.varlink.service` for a service that is described by `info`.
pub(super) async fn answer_service_call(
    info: &ServiceInfo,
    call: &VarlinkCall<'_>,
    replies: &mut ReplyWriter<'_>,
) -> Result<(), ConnectionClosed> {
    match call.method() {
        "GetInfo" => match call
            .parameters()
            .and_then(super::CallParameters::expect_empty)
        {
            Ok(()) => replies.send(&GetInfoReply::from_info(info)).await,
            Err(error) => replies.send_error(&error).await,
        },
        "GetInterfaceDescription" => match find_description(info, call) {
            Ok(description) => {
                replies
                    .send(&InterfaceDescriptionReply { description })
                    .await
            }
            Err(error) => replies.send_error(&error).await,
        },
        _ => replies.send_error(&call.method_not_found()).await,
    }
}

fn find_description(
    info: &ServiceInfo,
    call: &VarlinkCall<'_>,
) -> Result<&'static str, StandardError> {
    let mut parameters = call.parameters()?;
    let interface: String = parameters.take("interface")?;
    parameters.expect_empty()?;
    info.interfaces
        .iter()
        .chain([&SERVICE_INTERFACE])
        .find(|known| known.name == interface)
        .map(|known| known.description)
        .ok_or(StandardError::InterfaceNotFound { interface })
}

#[derive(Serialize)]
struct GetInfoReply {
    vendor: &'static str,
    product: &'static str,
    version: &'static str,
    url: &'static str,
    interfaces: Vec<&'static str>,
}

impl GetInfoReply {
    fn from_info(info: &ServiceInfo) -> Self {
        let mut interfaces: Vec<_> = info.interfaces.iter().map(|known| known.name).collect();
        interfaces.push(SERVICE_INTERFACE.name);
        interfaces.sort_unstable();
        Self {
            vendor: info.vendor,
            product: info.product,
            version: info.version,
            url: info.url,
            interfaces,
        }
    }
}

#[derive(Serialize)]
struct InterfaceDescriptionReply {
    description: &'static str,
}
