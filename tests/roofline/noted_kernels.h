#pragma once

#include "roofline/noted_laws.h"
#include "roofline/noted_products.h"
#include "roofline/noted_rows.h"
