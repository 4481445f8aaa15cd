"""ScaLoRA's variants: the systems for their scales, the exact optimum, and the fold into the weight."""
