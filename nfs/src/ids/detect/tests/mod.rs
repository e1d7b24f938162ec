//! Rules on packets, streams and transactions: which of them match.

mod bytes;
mod content;
mod cost;
mod every;
mod kit;
mod limits;
mod packet;
mod properties;
mod state;
mod stream;
mod transaction;
mod verdict;

use self::kit::*;
use super::*;
