// SPDX-License-Identifier: Apache-2.0
//! `org.varlink.service`: the interface and the errors that all services share.

use serde::{Deserialize, Serialize};

use super::{ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface};

/// The interface of every service, <https://varlink.org/Service>.
pub const SERVICE_INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.varlink.service",
    description: include_str!("org.varlink.service.varlink"),
};

/// An error that every method may return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[serde(tag = "error", content = "parameters")]
pub enum StandardError {
    /// The service does not have the interface.
    #[error("the service has no interface {interface:?}")]
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound {
        /// The interface's name.
        interface: String,
    },
    /// The interface does not have the method.
    #[error("the interface has no method {method:?}")]
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound {
        /// The method's name without the interface, as in the Python stack.
        method: String,
    },
    /// The service does not implement this method of the interface.
    #[error("the method {method:?} is not implemented")]
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented {
        /// The method's name without the interface.
        method: String,
    },
    /// A parameter is missing, unknown, duplicate, or of the wrong type.
    #[error("the parameter {parameter:?} is missing, unknown or invalid")]
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter {
        /// The parameter's name.
        parameter: String,
    },
    /// The caller lacks the permission.
    #[error("permission denied")]
    #[serde(rename = "org.varlink.service.PermissionDenied")]
    PermissionDenied,
    /// The method streams replies and must be called with `more`.
    #[error("the method must be called with \"more\"")]
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore,
}

impl StandardError {
    /// Returns the error for a missing, unknown or invalid parameter.
    pub fn invalid_parameter(parameter: &str) -> Self {
        Self::InvalidParameter {
            parameter: parameter.to_owned(),
        }
    }
}

/// Answers a call of `org.varlink.service` for the service that `info` describes.
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
