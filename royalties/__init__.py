"""Who is owed what: orders, receipts, lanes, splits and statements."""
