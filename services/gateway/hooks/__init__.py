"""What PBXs and CRMs send: checked, made durable, answered before anything is done."""
