//! The tokens of OAUTHBEARER that the program makes itself: those of Amazon MSK's IAM.
//!
//! librdkafka asks for a token when a client starts, when a fifth of the last one's life is left, and 10 s after a failure. A thread that
//! polls the client answers. Tokens of `sasl.oauthbearer.method=oidc` are librdkafka's own affair: it does not ask for them here.

use rdkafka::ClientContext;
use rdkafka::client::{Client, OAuthToken};
use rdkafka_sys as sys;
use std::error::Error;
use std::ffi::CString;
use tidemark_settings::kafka::Properties;

/// The token of a client with these properties, for [`ClientContext::generate_oauth_token`]. Takes 6 s at most.
pub fn oauth_token(properties: &Properties) -> Result<OAuthToken, Box<dyn Error>> {
    let Some(region) = properties.msk_region() else {
        return Err("a token of enable.sasl.oauthbearer.unsecure.jwt is not renewed".into());
    };
    Ok(of_msk(region)?)
}

#[cfg(feature = "msk-iam")]
use super::msk_iam::{first_token as first_of_msk, token as of_msk};

#[cfg(not(feature = "msk-iam"))]
fn of_msk(_: &str) -> Result<OAuthToken, String> {
    Err("this build has no AWS_MSK_IAM".to_owned())
}

#[cfg(not(feature = "msk-iam"))]
use of_msk as first_of_msk;

/// Gives a new client its token, if it needs one of ours. It would ask for it only when it is polled: a client whose events nobody polls
/// would never log in, and others would wait for their first poll.
#[expect(unsafe_code, reason = "the safe client has no such call")]
pub fn give_token<C: ClientContext>(client: &Client<C>, properties: &Properties) -> Result<(), String> {
    let Some(region) = properties.msk_region() else { return Ok(()) };
    let token = first_of_msk(region)?;
    let text = |text: String| CString::new(text).map_err(|error| error.to_string());
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut why = [0; 512];
    // SAFETY: the client is alive, and copies both texts before the call returns; it writes no more than there is room for.
    let given = unsafe {
        sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            why.as_mut_ptr(),
            why.len(),
        )
    };
    match given {
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        // Not its words, which may repeat the token.
        error => Err(format!("librdkafka does not take the token: {error:?}")),
    }
}
