//! Bytes on the wire: views of headers, and the one parse of each packet.
