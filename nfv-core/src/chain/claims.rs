//! Addresses that functions of a chain file take for themselves: no two may take the same one.

use std::cell::RefCell;
use std::net::IpAddr;

use crate::chain::report::Report;
use crate::chain::source::Span;
use crate::chain::value::PortRange;

/// What the functions built so far have taken.
#[derive(Debug, Default)]
pub struct Claims {
    taken: RefCell<Vec<Claim>>,
}

/// Addresses that a function has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What for, as a message says it: `the pool of a nat`.
    pub what: &'static str,
    /// The first address.
    pub first: IpAddr,
    /// The last one, of the same family.
    pub last: IpAddr,
    /// Protocol and ports, when only those of the addresses are taken.
    pub ports: Option<(u8, PortRange)>,
    /// Where the file says so.
    pub span: Span,
}

impl Claims {
    /// Takes addresses.
    ///
    /// # Errors
    /// The claim that has some of them already.
    pub fn take(&self, claim: Claim) -> Result<(), Claim> {
        let overlaps = |c: &&Claim| {
            let ports = match (c.ports, claim.ports) {
                (Some((a, own)), Some((b, other))) => a == b && own.overlaps(other),
                _ => true,
            };
            ports
                && c.first.is_ipv4() == claim.first.is_ipv4()
                && c.first <= claim.last
                && claim.first <= c.last
        };
        let mut taken = self.taken.borrow_mut();
        match taken.iter().find(overlaps) {
            Some(earlier) => Err(*earlier),
            None => {
                taken.push(claim);
                Ok(())
            }
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.taken.borrow().len()
    }

    /// Those behind the first `n`.
    pub(crate) fn since(&self, n: usize) -> Vec<Claim> {
        self.taken.borrow().get(n..).unwrap_or_default().to_vec()
    }

    /// Takes what a function took that is not built anew.
    pub(crate) fn take_again(&self, claims: &[Claim], span: Span, report: &mut Report) {
        for claim in claims {
            if let Err(earlier) = self.take(Claim { span, ..*claim }) {
                let message = format!("{} overlaps with {}", claim.what, earlier.what);
                report.error(span, message).hint(format!("see line {}", earlier.span.line));
            }
        }
    }
}
